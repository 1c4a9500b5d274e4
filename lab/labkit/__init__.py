"""The lab: real clients, kernels, filesystems and databases against a running Treering server."""
