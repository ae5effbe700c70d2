import ABIChecker
import ArgumentParser
import HostModel
import KVM
import Reporting
import Scenarios

/// Shows on which faults rules fail.
struct FaultsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "faults", abstract: "Put faults into a host's clock and see which rules notice.",
    discussion: """
      The faults are deviations of a kvmclock in user space, which serves real VMs through the MSR \
      filter. The last ones hit guests, threads and KVM_RUN itself. Rules about KVM's own parts \
      are shown to fail by mutated kernels instead (docs/mutants.md). Exit status 1: a fault was \
      missed, or a rule broke that the fault does not name.
      """)

  @Argument(help: "Ids of faults or of rules, * and ? allowed; all faults if none is given.")
  var names: [String] = []

  @Flag(help: "List the faults, and run none.")
  var list = false

  @Option(help: ArgumentHelp("Also write the table there, as JSON.", valueName: "file"))
  var output: String?

  @Option(help: ArgumentHelp("KVM's device.", valueName: "path"))
  var device = "/dev/kvm"

  @Option(help: "Seed of the random choices, decimal or 0x….")
  var seed: Seed?

  func validate() throws {
    for name in names {
      let ids =
        Fault.all.flatMap { [$0.id] + $0.rules } + GradedFault.all.map(\.id)
        + HarnessFault.all.map(\.id)
      guard ids.contains(where: { RuleSelection.matches($0, name) }) else {
        throw ValidationError(
          "no fault and no rule matches '\(name)'. `kvmclock list` shows the rules.")
      }
    }
  }

  func run() throws {
    if list {
      let faults = Fault.all.filter { isWanted([$0.id] + $0.rules) }
      let indent = 2 + (faults.map(\.id.count).max() ?? 0)
      return try Output.write(
        faults.map { Layout.item($0.id, $0.meaning, indent: indent) }.joined())
    }
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    let table: FaultTable
    do { table = try run(cancellation) } catch let error as KVMError { throw Failure(error) }
    try Output.write(FaultReport.summary(table))
    if let output { try BenchFile.write(table, to: output) }
    if cancellation.isCancelled { throw ExitCode(interruption.exitCode) }
    if !table.isAsExpected { throw ExitCode(1) }
  }

  private func run(_ cancellation: Cancellation) throws -> FaultTable {
    try ClockKind.requireSupport(of: device)
    let bench = FaultBench(
      facts: try HostInspection.facts(device: device), device: device, seed: seed?.value ?? 2015,
      cancellation: cancellation)
    var table = FaultTable()
    for fault in Fault.all where isWanted([fault.id] + fault.rules) && !cancellation.isCancelled {
      table.faults.append(try bench.run(fault))
      try Output.write(FaultReport.line(table.faults.last!))
    }
    for fault in GradedFault.all where isWanted([fault.id]) && !cancellation.isCancelled {
      table.graded.append(try bench.run(fault))
      try Output.write(FaultReport.line(table.graded.last!))
    }
    for fault in HarnessFault.all where isWanted([fault.id]) && !cancellation.isCancelled {
      table.harness.append(try bench.run(fault))
      try Output.write(FaultReport.line(table.harness.last!))
    }
    return table
  }

  private func isWanted(_ ids: [String]) -> Bool {
    names.isEmpty
      || names.contains { name in ids.contains { RuleSelection.matches($0, name) } }
  }
}
