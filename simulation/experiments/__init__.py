"""The paper's questions as experiments: cells that are trained once, and what is said of them."""
