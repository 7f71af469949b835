"""Chat endpoints: requests, what servers refuse, answers and prompts."""
