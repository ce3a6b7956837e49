"""What every part uses: errors, files, downloads, the machine and its GPUs."""
