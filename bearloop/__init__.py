"""What every bearloop program shares: contract, store, fetch, preprocess, bundle, client, cli."""
