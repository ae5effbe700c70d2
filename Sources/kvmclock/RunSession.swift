import ABIChecker
import Glibc
import KVM
import Reporting
import Scenarios

/// One run: what is kept, printed and counted while it goes on.
final class RunSession {
  private let kernelLog: KernelLog?
  private let stopsAtFirst: Bool
  private let isQuiet: Bool
  let stream: VerdictStream?
  private var progress = Progress()
  private var keeper: HistoryKeeper
  private var broken: Set<String> = []
  private let began = ContinuousClock.now

  init(
    keeper: HistoryKeeper, kernelLog: KernelLog?, stopsAtFirst: Bool, isQuiet: Bool,
    stream: VerdictStream?
  ) {
    self.keeper = keeper
    self.kernelLog = kernelLog
    self.stopsAtFirst = stopsAtFirst
    self.isQuiet = isQuiet
    self.stream = stream
  }

  /// Whether a history could not be saved.
  var hasFailed: Bool { keeper.hasFailed }

  /// - Parameter settle: what the user's own list makes of a report.
  func run(
    _ plan: RunPlan, _ host: HostFacts, _ outer: Cancellation,
    settle: (Report) throws(Failure) -> Report
  ) throws(Failure) -> Report {
    let cancellation = Cancellation(within: outer)
    var report = Report(
      version: Kvmclock.version, host: host, seed: plan.seed, verdicts: [],
      planned: plan.rules.count)
    keeper.describe(&report)
    report = try settle(report)
    let excuses = report.own
    stream?.begin(report)
    let observer = RunObserver(
      begins: { self.begins($0, $1, $2) }, keep: { self.keeper.keep($0) },
      broke: { verdicts in
        self.broken.formUnion(verdicts.map(\.rule))
        if self.stopsAtFirst { cancellation.cancel() }
      },
      judged: { self.stream?.add($0.excused(by: excuses, on: host.kernel), in: report) })
    let result: RunResult
    do {
      result = try Runner.run(plan, host: host, cancellation: cancellation, observer: observer)
    } catch {
      throw Failure(error)
    }
    progress.clear()
    report.verdicts = result.verdicts
    report.retries = result.retries
    report.nanoseconds = UInt64((ContinuousClock.now - began) / .nanoseconds(1))
    report.timings = result.timings.map {
      ScenarioTiming(scenario: $0.scenario, attempt: $0.attempt, nanoseconds: $0.nanoseconds)
    }
    keeper.describe(&report)
    report.noGuestRuns = result.noGuestRuns
    if result.wasCancelled { report.interruption = "--fail-fast" }
    return try settle(report)
  }

  private func begins(_ name: ScenarioName, _ place: Int, _ count: Int) {
    kernelLog?.write("kvmclock: scenario \(name.rawValue) begins")
    guard !isQuiet, Progress.isOnTerminal else { return }
    let found = broken.isEmpty ? "" : ", \(broken.count) broken"
    progress.show("\(place) of \(count) scenarios\(found): \(name.rawValue)")
  }
}

/// The kernel's log, `/dev/kmsg`: it survives a panic on a serial console or in pstore.
final class KernelLog {
  private let descriptor: Int32

  init() throws(Failure) {
    descriptor = open("/dev/kmsg", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Failure(
        69,
        "kvmclock: /dev/kmsg: cannot open it: \(String(cString: strerror(errno))); "
          + "run as root, or leave out --kmsg")
    }
  }

  deinit { close(descriptor) }

  func write(_ line: String) {
    let bytes = Array("<5>\(line)\n".utf8)
    _ = Glibc.write(descriptor, bytes, bytes.count)
  }
}
