import ArgumentParser
import Scenarios

/// What the lab asks: emulated machines have this machine's TSC, and a script cannot read it.
struct TSCRateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tsc-rate",
    abstract: "Measure the TSC against CLOCK_MONOTONIC_RAW, and print its rate in kHz.",
    shouldDisplay: false)

  func run() throws {
    try Output.write("\(HostInspection.measuredTSCkHz())\n")
  }
}
