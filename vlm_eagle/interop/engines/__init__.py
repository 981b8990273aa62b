"""Running vLLM and SGLang servers: started, asked, counted, and compared with our own loop."""
