# The project's commands under the names that one types first; what they do is in xtask/.

.PHONY: help quickstart test seed compare kernels

help:
	@cargo xtask help

quickstart test seed compare kernels:
	@cargo xtask $@
