module thaw.invalid/thawvm

go 1.19
