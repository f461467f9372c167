"""What a network is and where it runs: parsed once, checked once, never read again behind anyone's back."""
