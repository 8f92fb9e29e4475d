"""What client and server must agree on; imports nothing else of fedvitals."""
