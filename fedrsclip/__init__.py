"""FedRSCLIP: the `fedrsclip` command and the workbench around the federated apps."""
