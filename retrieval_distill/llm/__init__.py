"""Chat endpoints: requests, adaptations to servers, answers and prompts."""
