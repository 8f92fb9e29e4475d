"""Two ways to run the same ServerApp and ClientApp on one machine, with the same result."""
