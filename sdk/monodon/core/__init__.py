"""What Monodon knows of Greengrass: values and functions, without files, sockets, clocks or tasks."""
