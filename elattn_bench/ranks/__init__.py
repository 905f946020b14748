"""Cases whose sequence is spread over ranks: processes of ours or of torchrun's, measured in lockstep."""
