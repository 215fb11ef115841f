"""Images in: sources become a job, its ledger becomes images and claims."""
