"""What runs at a site beside the run itself: its SuperNode, its SuperExec, and what keeps them."""
