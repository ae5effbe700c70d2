import ABIChecker
import ArgumentParser
import HostModel
import KVM
import Reporting
import Scenarios

/// Shows that every rule can fail, and on what.
struct FaultsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "faults", abstract: "Put faults into a host's clock and see which rules notice.",
    discussion: """
      Most are deviations of a kvmclock in user space that serves real VMs through the MSR filter; others alter what the \\
      kernel answered, or a history. Exit status 1: a fault was missed, a rule broke that nobody expected, or a rule has no fault.
      """)

  @Argument(help: "Ids of faults or of rules, * and ? allowed; all faults if none is given.")
  var names: [String] = []

  @Option(help: ArgumentHelp("KVM's device.", valueName: "path"))
  var device = "/dev/kvm"

  @Option(help: "Seed of the random choices, decimal or 0x….")
  var seed: Seed?

  func run() throws {
    let facts: HostFacts
    do { facts = try HostInspection.facts(device: device) } catch { throw Failure(error) }
    let bench = FaultBench(facts: facts, device: device, seed: seed?.value ?? 2015)
    var isGood = true
    for fault in Fault.all where isWanted(fault.id, fault.rules) {
      let result: FaultResult
      do { result = try bench.run(fault) } catch { throw Failure(error) }
      isGood = isGood && result.isAsExpected
      print(
        result.isAsExpected ? "caught" : result.isCaught ? "caught, but" : "MISSED", fault.id,
        result.expected, "missed", result.missed, "unexplained", result.unexplained, "also unused",
        result.also.filter { !result.broke.contains($0) })
    }
    for graded in GradedFault.all where isWanted(graded.id, graded.rules) {
      let result: GradedResult
      do { result = try bench.run(graded) } catch { throw Failure(error) }
      isGood = isGood && result.isAsExpected
      print(result.isAsExpected ? "caught" : "MISSED", graded.id, result.sizes, result.caught)
    }
    print(FaultBench.unproved)
    if !isGood { throw ExitCode(1) }
  }

  private func isWanted(_ id: String, _ rules: [String]) -> Bool {
    names.isEmpty || names.contains(where: { name in id == name || rules.contains(name) })
  }
}
