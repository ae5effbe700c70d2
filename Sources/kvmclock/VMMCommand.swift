import ABIChecker
import ArgumentParser
import Glibc
import KVM
import Reporting
import Scenarios
import VMM

/// Tests what a VMM does with its guests' clock.
struct VMMCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vmm", abstract: "Test what a VMM does with its guests' clock.",
    discussion: """
      A guest of our own runs under the VMM, reads its clock on every vCPU without pause, and answers \
      over COM1; the VMM is paused, saved, restored, migrated, reset and given vCPUs.

        kvmclock vmm qemu
        kvmclock vmm --driver my-vmm.json
      """,
    subcommands: [
      VMMQEMUCommand.self, VMMDriverCommand.self, VMMToyCommand.self, VMMGuestCommand.self,
    ], defaultSubcommand: VMMDriverCommand.self)
}

struct VMMDriverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "driver", abstract: "Test any VMM, driven as a JSON file says: vmm --driver FILE.",
    discussion: """
      The file names the VMM's program and gives the commands or HTTP requests for each verb. A verb \
      that is absent is not tested. docs/vmm.md has the form; drivers/ has files for Firecracker, \
      cloud-hypervisor, crosvm and kvmtool.
      """)

  @Option(help: ArgumentHelp("The driver's file.", valueName: "file"), completion: .file())
  var driver: String?

  @OptionGroup var options: VMMOptions

  func run() throws {
    guard let driver else { throw CleanExit.helpRequest(VMMCommand.self) }
    let json: [UInt8]
    do { json = try WholeFile.read(driver, atMost: 1 << 20) } catch { throw Failure(error) }
    try options.run { tracer, isCancelled throws(VMMError) in
      try DrivenVMM(json: json, tracer: tracer, isCancelled: isCancelled)
    }
  }
}

struct VMMQEMUCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "qemu", abstract: "Test QEMU.",
    discussion: """
      What stands after -- goes to QEMU as it is, behind what this program gives it:

        kvmclock vmm qemu
        kvmclock vmm qemu --binary ./qemu-system-x86_64 --machine microvm
        kvmclock vmm qemu --pause stands-still -- -cpu EPYC
      """)

  @Option(
    help: ArgumentHelp(
      "QEMU's program: a path, or a name to look for in PATH; qemu-system-x86_64 if absent.",
      valueName: "path"),
    completion: .file())
  var binary: String?

  @Option(help: "QEMU's machine: q35, pc or microvm. microvm has no hot-plug.")
  var machine = "q35"

  @Argument(
    parsing: .postTerminator, help: ArgumentHelp("QEMU's own options.", valueName: "option"))
  var qemuOptions: [String] = []

  @OptionGroup var options: VMMOptions

  func run() throws {
    try options.run { tracer, isCancelled throws(VMMError) in
      try QEMU(
        binary: binary, machine: machine, options: qemuOptions, tracer: tracer,
        isCancelled: isCancelled)
    }
  }
}

struct VMMToyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "toy", abstract: "Test a toy VMM of our own, with a fault or without.",
    discussion: """
      It shows what each rule says of a VMM that does it wrong. The faults:

      """
        + ToyFault.allCases.map {
          "  \($0.rawValue): \($0.description); breaks \($0.breaks.joined(separator: ", "))"
        }
        .joined(separator: "\n"))

  @Option(help: ArgumentHelp("What it does wrong.", valueName: "name"))
  var fault: ToyFault?

  @OptionGroup var options: VMMOptions

  func run() throws {
    try options.run { _, isCancelled throws(VMMError) in
      do throws(KVMError) { return try ToyVMM(fault, isCancelled: isCancelled) } catch {
        throw .cannotStart(what: "the toy VMM", reason: "\(error)")
      }
    }
  }
}

/// What the clock is to do from a save to a restore, in the words of those who write VMMs.
enum RestorePolicy: String, ExpressibleByArgument, CaseIterable {
  case resumes
  case catchesUp = "catches-up"

  var clock: ClockPolicy {
    switch self {
    case .resumes: .standsStill
    case .catchesUp: .runsOn
    }
  }
}

/// What is done with a VMM, whichever it is.
struct VMMOptions: ParsableArguments {
  @Option(help: ArgumentHelp("vCPUs of each machine, 1 to 15.", valueName: "n"))
  var vcpus = 2

  @Option(help: ArgumentHelp("How often each thing is done in a row.", valueName: "n"))
  var rounds = 3

  @Option(
    help:
      "What the clock is to do over a pause: stands-still or runs-on. If absent, the same thing each time."
  )
  var pause: ClockPolicy?

  @Option(
    help:
      "What it is to do from a save to a restore: resumes from what was saved, or catches-up with the time."
  )
  var restore: RestorePolicy?

  @Option(
    help: ArgumentHelp(
      "Only this: run, pause, snapshot, migration, reset, hotplug or beside. May be given several times.",
      valueName: "name"))
  var only: [String] = []

  @Option(
    help: ArgumentHelp(
      "Keep what was recorded in a new folder, one file for each scenario.", valueName: "dir"),
    completion: .directory)
  var history: String?

  @Option(
    help: ArgumentHelp(
      "Run the VMM under strace: its ioctls go to this folder, and those that KVM refused to stderr.",
      valueName: "dir"),
    completion: .directory)
  var trace: String?

  @OptionGroup var options: ReportOptions

  func validate() throws {
    guard (1...15).contains(vcpus) else {
      throw ValidationError("--vcpus is a number from 1 to 15, not \(vcpus).")
    }
    guard rounds >= 1 else { throw ValidationError("--rounds is at least 1, not \(rounds).") }
    _ = try scenarios()
  }

  private func scenarios() throws -> [ScenarioName] {
    guard !only.isEmpty else { return ScenarioName.ofVMMs }
    let wanted = try only.map { name in
      guard let scenario = ScenarioName(rawValue: "vmm-\(name)"), scenario.isOfVMMs else {
        throw ValidationError(
          "--only is one of run, pause, snapshot, migration, reset, hotplug and beside, not '\(name)'."
        )
      }
      return scenario
    }
    return ScenarioName.ofVMMs.filter(wanted.contains)
  }

  func run(
    _ make: (Tracer?, @escaping () -> Bool) throws(VMMError) -> any VirtualMachineMonitor
  ) throws {
    var plan = VMMPlan()
    plan.vcpus = vcpus
    plan.rounds = rounds
    plan.scenarios = try scenarios()
    plan.declared[.pause] = pause
    plan.declared[.restore] = restore?.clock
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    let isCancelled = { cancellation.isCancelled }
    var keeper = try HistoryKeeper(run: RunFacts(command: "vmm"), folder: history)
    if let trace {
      do { try HistoryFile.prepare(folder: trace) } catch { throw Failure(error) }
    }
    try options.prepare()
    let tables = try options.tables()
    let host: HostFacts
    do { host = try HostInspection.facts(device: "/dev/kvm") } catch { throw Failure(error) }
    let began = ContinuousClock.now
    let tracer: Tracer?
    let retries: Int
    do throws(VMMError) {
      tracer = try trace.map { folder throws(VMMError) in try Tracer(folder: folder) }
      let monitor = try make(tracer, isCancelled)
      retries = try VMMRunner.run(
        plan, on: monitor, host: host, isCancelled: isCancelled, keep: { keeper.keep($0) })
    } catch {
      let isBadData = if case .badDriver = error { true } else { false }
      throw Failure(isBadData ? 65 : 69, "kvmclock: \(error)")
    }
    for line in tracer?.summary ?? [] { Output.complain("trace: \(line)") }
    let timelines = keeper.histories.map(Timeline.init)
    let seen = Set(plan.scenarios.map(\.rawValue))
    let rules = Rule.all.filter { rule in
      rule.concernsEveryRecord || rule.isOfVMMs && seen.contains { rule.isExercised(by: $0) }
    }
    var verdicts = rules.map { $0.verdict(on: timelines) }
    if cancellation.isCancelled { verdicts.removeAll { !$0.outcome.isBroken } }
    var report = Report(
      version: Kvmclock.version, host: keeper.histories.first?.header.host ?? host, seed: nil,
      verdicts: verdicts, planned: rules.count)
    report.retries = retries
    report.nanoseconds = UInt64((ContinuousClock.now - began) / .nanoseconds(1))
    keeper.describe(&report)
    report = try options.settled(report)
    report.interruption = cancellation.isCancelled ? interruption.signalName : nil
    for table in tables { report.include(table) }
    let isComplete = options.deliver([report], style: ReportStyle(isVerbose: options.verbose))
    if report.interruption != nil { throw ExitCode(interruption.exitCode) }
    let code = options.exitCode(of: report)
    if keeper.hasFailed || !isComplete, code != 1 { throw ExitCode(74) }
    throw ExitCode(code)
  }
}

/// The guest, for people's own scripts.
struct VMMGuestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guest", abstract: "Write the guest that `kvmclock vmm` boots to a file.",
    discussion: "What it is asked over COM1, and what it answers, stands in guest-images/README.md."
  )

  @Option(
    help:
      "elf: with the note of PVH, for QEMU -kernel and others; flat: the bytes that stand at 1 MiB."
  )
  var format = GuestFile.elf

  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp("Where to.", valueName: "file"), completion: .file())
  var output: String

  func run() throws {
    do { try ReportFile.write(bytes: format.bytes, to: output) } catch { throw Failure(error) }
  }
}

extension ClockPolicy: ExpressibleByArgument {}
extension GuestFile: ExpressibleByArgument {}
extension ToyFault: ExpressibleByArgument {}
