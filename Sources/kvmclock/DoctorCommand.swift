import ArgumentParser
import Glibc
import KVM
import Reporting
import Scenarios

/// Says what this host offers.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this host offers, what can't be tested here, and what would help.")

  @Option(
    help: ArgumentHelp("KVM's device.", valueName: "path"),
    completion: .file())
  var device = "/dev/kvm"

  func run() throws {
    let report = try inspect()
    try Output.write(
      [host(report), capabilities(report), probes(report), untested(report)]
        .joined(separator: "\n"))
    guard hasClock(report) else {
      throw Failure(69, "kvmclock: this kernel's KVM has no paravirtual clock")
    }
  }

  private func inspect() throws(Failure) -> HostReport {
    do {
      return try HostInspection.report(device: device)
    } catch {
      var failure = Failure(error)
      if [ENOENT, ENODEV, ENXIO].contains(error.errno) {
        failure.message +=
          " Where there is no KVM at all, `make lab` in the project's checkout boots real KVM kernels under emulation."
      }
      throw failure
    }
  }

  private func hasClock(_ report: HostReport) -> Bool {
    report.capabilities.contains { $0.name == Capability.clocksource.description && $0.value > 0 }
  }

  private func host(_ report: HostReport) -> String {
    let facts = report.facts
    let items =
      [
        ("kernel", facts.kernel),
        ("backend", facts.backend ?? "no module whose name begins with kvm_"),
        ("TSC", facts.tscKHz.map { "\($0) kHz" } ?? "of unknown frequency"),
        ("clocksource", facts.clocksource ?? "unknown"),
        ("kvmclock", Kvmclock.version), ("date", Output.date),
        ("name", HostInspection.hostname ?? "none"),
      ] + (facts.machine?.items ?? [])
    let indent = 4 + (items.map(\.0.count).max() ?? 0)
    return "host\n" + items.map { Layout.item("  \($0.0)", $0.1, indent: indent) }.joined()
  }

  private func capabilities(_ report: HostReport) -> String {
    let names = (report.capabilities.map(\.name.count).max() ?? 0) + 4
    let values = (report.capabilities.map { "\($0.value)".count }.max() ?? 0) + 2
    let lines = report.capabilities.map { capability in
      let name = Plain.pad("  \(capability.name)", to: names)
      let value = Plain.pad("\(capability.value)", to: values)
      return Layout.item(name + value, capability.meaning, indent: names + values)
    }
    return "capabilities\n" + lines.joined()
  }

  private func probes(_ report: HostReport) -> String {
    let names = (report.probes.map(\.name.count).max() ?? 0) + 13
    let lines = report.probes.map { probe in
      let finding = Plain.pad("  \(probe.finding.rawValue)", to: 11)
      return Layout.item(finding + probe.name, probe.evidence, indent: names)
    }
    return "tried\n" + lines.joined()
  }

  private func untested(_ report: HostReport) -> String {
    let lacking = report.probes.filter { $0.finding != .works && !$0.rules.isEmpty }
    guard !lacking.isEmpty else { return "Every rule can be tested here.\n" }
    let lines = lacking.map { probe in
      Layout.item("  rules", probe.rules.joined(separator: ", "), indent: 10)
        + Layout.item("  why", "\(probe.name): \(probe.finding.rawValue)", indent: 10)
        + Layout.item("  remedy", probe.remedy, indent: 10)
    }
    return "not tested here\n" + lines.joined()
  }
}
