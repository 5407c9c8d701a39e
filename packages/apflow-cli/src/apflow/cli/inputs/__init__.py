"""What the command line accepts: options, task files, inputs and tokens."""
