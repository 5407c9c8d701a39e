"""The pages of `docs/`, taken apart so that their blocks run as a reader would run them."""
