"""What every command needs: device, errors, files, processes and signals."""
