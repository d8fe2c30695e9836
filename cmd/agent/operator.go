package main

import "github.com/spf13/cobra"

func addOperator(*cobra.Command) {}
