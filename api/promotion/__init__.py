"""Gates, promotions and endpoints."""
