"""Network addresses that tasks may connect to, and connecting to them."""
