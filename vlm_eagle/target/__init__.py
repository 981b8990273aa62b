"""The frozen target: loading, capture of aux hidden states, prefill and tree verification."""
