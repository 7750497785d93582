"""The network in other formats, compared before it is put in place."""
