"""`fedrsclip model convert`: CLIPs in OpenCLIP's and OpenAI's forms as HuggingFace CLIP folders."""
