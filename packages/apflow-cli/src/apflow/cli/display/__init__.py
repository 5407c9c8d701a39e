"""What the command line shows: data, tables and the live tree."""
