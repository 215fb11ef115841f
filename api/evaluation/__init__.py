"""What a run says of every image, and of itself."""
