import Inside
import PVClock
import Reporting
import Scenarios

/// Watches the record, and tells of events as they happen.
struct ClockWatch {
  private let options: InsideCommand
  private let view: GuestView
  private let record: MappedRecord
  private var watcher: Watcher
  private var commands = Commands()
  private var totals = WatchTotals()
  private let began = monotonicNow()
  private let cpuAtStart = timeOnCPU()

  /// How often the Prometheus file is written where nothing happens, in nanoseconds.
  private static let refresh: UInt64 = 15_000_000_000
  private static let millisecond: UInt64 = 1_000_000

  init(_ options: InsideCommand, _ view: GuestView) throws(Failure) {
    guard let record = view.record else {
      let absence = view.absence
      throw Failure(
        69,
        "kvmclock: no clock record to watch: \(absence?.reason ?? "none was found")"
          + (absence.map { "\nremedy: \($0.remedy)" } ?? ""))
    }
    self.options = options
    self.view = view
    self.record = record
    watcher = Watcher(
      record, least: options.least * 1000, gap: options.gap * Self.millisecond)
  }

  mutating func run() throws {
    let cancellation = Cancellation()
    let interruption = Interruption(cancelling: cancellation)
    let end = options.time.map { began + $0.nanoseconds }
    try greet()
    try writeFigures(isRunning: true)
    var due = began + Self.refresh
    var next = began
    while !cancellation.isCancelled {
      next = max(next + options.interval * Self.millisecond, monotonicNow())
      if let end, next > end { next = end }
      pause(until: next)
      let event = watcher.look()
      if let event { try tell(event) }
      commands.reap()
      let now = monotonicNow()
      if event != nil || now >= due {
        try writeFigures(isRunning: true)
        due = now + Self.refresh
      }
      if let end, now >= end { break }
    }
    commands.wait(nanoseconds: 5_000_000_000)
    try writeFigures(isRunning: false)
    try sayFarewell()
    if options.time != nil, interruption.signalName != nil {
      throw Failure(interruption.exitCode, "kvmclock: interrupted before the time was over")
    }
  }

  private func greet() throws(Failure) {
    guard options.options.format == .text else { return }
    let page = watcher.newest.page
    let kHz = page.scale.tscKHz.map { "\($0) kHz" } ?? "unknown frequency"
    try Output.write(
      "watching \(record.place) every \(options.interval) ms: version \(page.version), flags "
        + "0x\(String(page.flags.rawValue, radix: 16)), TSC of \(kHz), clocksource "
        + "\(view.facts.clocksource ?? "unknown")\n")
  }

  private mutating func tell(_ event: ClockEvent) throws(Failure) {
    totals.take(event)
    let report = WatchReport(event)
    try Output.write((options.options.format == .json ? report.json : report.line) + "\n")
    guard let command = options.exec else { return }
    let error = commands.start(command, variables: report.variables)
    if error != 0 {
      Output.complain("kvmclock: cannot start the command: errno \(error)")
    }
  }

  /// A disk that is full for a while ends no watch.
  private func writeFigures(isRunning: Bool) throws(Failure) {
    guard let path = options.prometheus else { return }
    let text = WatchPrometheus(
      watcher: watcher, totals: totals, place: record.place,
      kernel: view.facts.kernel, clocksource: view.facts.clocksource ?? "unknown",
      isRunning: isRunning
    ).text
    do { try ReportFile.write(text, to: path) } catch {
      if monotonicNow() - began < 1_000_000_000 { throw Failure(error) }
      Output.complain(Failure(error).message)
    }
  }

  private func sayFarewell() throws(Failure) {
    guard options.options.format == .text else { return }
    let elapsed = monotonicNow() - began
    let onCPU = timeOnCPU() - cpuAtStart
    let share = onCPU * 100_000 / max(1, elapsed)
    let rest = String(share % 1000)
    try Output.write(
      "watched \(InsideText.seconds(elapsed)): \(InsideText.count(totals.events, "event")), "
        + "\(InsideText.count(Int(clamping: watcher.updates), "update")) of the record in "
        + "\(watcher.looks) looks; \(InsideText.time(onCPU)) on a CPU "
        + "(\(share / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest) %)\n")
  }
}

/// What has happened since the watch began.
struct WatchTotals {
  private(set) var counts: [ClockEvent.Kind: Int] = [:]
  /// How long the clock stood still while the TSC ran on, in nanoseconds.
  private(set) var stoodStill: UInt64 = 0
  private(set) var last: ClockEvent?

  var events: Int { counts.values.reduce(0, +) }

  mutating func take(_ event: ClockEvent) {
    counts[event.kind, default: 0] += 1
    stoodStill &+= event.stoodStill
    last = event
  }
}
