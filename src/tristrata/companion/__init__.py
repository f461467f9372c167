"""The user's companion: an OpenAI endpoint on this machine that holds the keys, checks receipts and signs vouchers."""
