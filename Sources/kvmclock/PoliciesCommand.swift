import ABIChecker
import ArgumentParser
import HostModel
import Reporting
import Scenarios

/// What the policies of 2015 do to the guests of 2015.
struct PoliciesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policies",
    abstract: "Run the guests of the discussion of 2015 on each policy that was on the table.",
    discussion: """
      A kvmclock in user space serves real VMs; each policy says whether a guest's write of the system-time MSR may restart \\
      time. docs/2015.md tells the story.
      """)

  @Option(help: "model: the policies; kernel: also a row for the running kernel.")
  var host = ClockKind.model

  @Option(help: ArgumentHelp("KVM's device.", valueName: "path"))
  var device = "/dev/kvm"

  @Option(help: ArgumentHelp("Also write the matrix there, as JSON.", valueName: "file"))
  var output: String?

  @Option(help: "Seed of the random choices, decimal or 0x….")
  var seed: Seed?

  func validate() throws {
    if host == .interference {
      throw ValidationError("policies knows the hosts model and kernel.")
    }
  }

  func run() throws {
    let matrix: PolicyMatrix
    do {
      try ClockKind.requireSupport(of: device)
      matrix = try PolicyBench.run(
        facts: try HostInspection.facts(device: device), device: device,
        seed: seed?.value ?? 2015, withKernel: host == .kernel)
    } catch {
      throw Failure(error)
    }
    try Output.write(PolicyReport.text(matrix))
    if let output { try BenchFile.write(matrix, to: output) }
  }
}
