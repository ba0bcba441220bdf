"""The applier on files and on the kernel model; laws stand below property/."""
