"""What is stored and no longer needed: found by a policy, shown, and removed while everything else goes on."""
