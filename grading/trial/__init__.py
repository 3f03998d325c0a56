"""A trial: one network on the images, in a sandbox, and what is believed of what comes back."""
