public import ABIChecker
internal import PVClock

/// The events of a history as rows that people can read: what was done, and the clock beside CLOCK_MONOTONIC_RAW.
public struct EventTable {
  struct Row {
    var event: Event
    var isMarked: Bool
    var at: String
    var took: String
    var what: String
    /// The clock's value, its advance since the value before, and that of CLOCK_MONOTONIC_RAW.
    var clock: String
    var advance: String
    var raw: String
    /// Whether the advance is not what CLOCK_MONOTONIC_RAW allows.
    var isWrong: Bool
  }

  let rows: [Row]
  private let timeline: Timeline

  /// - Parameters:
  ///   - marked: events that stand out.
  ///   - shown: the numbers of the events to show; nil for all.
  init(_ timeline: Timeline, marked: Set<Int> = [], shown: ((Int) -> Bool)? = nil) {
    self.timeline = timeline
    let start = timeline.history.events.first?.began.raw ?? 0
    var steps: [Int: (value: UInt64, step: ClockStep?)] = [:]
    for (value, event, step) in timeline.clockSteps { steps[event.number] = (value, step) }
    rows = timeline.history.events.filter { shown?($0.number) ?? true }.map { event in
      let seen = steps[event.number]
      let step = seen?.step
      return Row(
        event: event, isMarked: marked.contains(event.number),
        at: TimeUnit.text(Double(Int64(bitPattern: event.began.raw &- start))),
        took: TimeUnit.text(Double(Int64(bitPattern: event.ended.raw &- event.began.raw))),
        what: event.action.plain, clock: seen.map { "\($0.value)" } ?? "",
        advance: step.map { Self.signed($0.advance) } ?? "",
        raw: step.map { Self.range($0) } ?? "", isWrong: step?.isWrong ?? false)
    }
  }

  private static func signed(_ nanoseconds: Int64) -> String {
    (nanoseconds < 0 ? "" : "+") + TimeUnit.text(Double(nanoseconds))
  }

  /// Between the end of the earlier event and the beginning of the later one, and from beginning to end.
  private static func range(_ step: ClockStep) -> String {
    let least = Double(Int64(bitPattern: step.to.began.raw &- step.from.ended.raw))
    let most = Double(Int64(bitPattern: step.to.ended.raw &- step.from.began.raw))
    let unit = TimeUnit(for: most)
    return "+\(unit.text(least)) to \(unit.text(most)) \(unit.name)"
  }
}

extension EventTable {
  /// A history, or the events of it that are asked for, for a terminal.
  ///
  /// - Parameters:
  ///   - range: the numbers of the events to show; nil for all.
  ///   - rule: only what proves this rule broken, with two events on either side, and what is wrong.
  public static func text(
    _ history: History, range: ClosedRange<Int>? = nil, rule: Rule? = nil
  ) -> String {
    let timeline = Timeline(history)
    let header = history.header
    var lines = [
      "\(header.name): Linux \(header.host.kernel), \(header.host.backend ?? "unknown backend"), "
        + "seed \(header.seed), \(history.events.count) events"
        + (header.run.map {
          ", kvmclock \($0.kvmclock) on \($0.hostname ?? "unknown") at \($0.date)"
        }
          ?? "")
    ]
    var marked: Set<Int> = []
    var near: ((Int) -> Bool)? = range.map { range in { range.contains($0) } }
    if let rule {
      let outcome = rule.judge(timeline)
      lines.append("\(rule.id): \(rule.statement)")
      if case .broken(let violations) = outcome {
        for violation in violations.prefix(3) {
          lines += ["  expected: \(violation.expected)", "  seen:     \(violation.seen)"]
          if let step = timeline.wrongStep(violation.events) {
            lines.append("  so:       \(step.sentence)")
          }
          marked.formUnion(violation.events)
        }
        if range == nil {
          let cited = marked
          near = { number in cited.contains { abs($0 - number) <= 2 } }
        }
      } else {
        lines.append("  \(outcome.summary)")
      }
    }
    let table = EventTable(timeline, marked: marked, shown: near)
    return (lines.map { Plain.oneLine($0) } + table.lines).joined(separator: "\n") + "\n"
  }

  private var lines: [String] {
    let heads = ["", "event", "by", "at", "clock, ns", "advance", "RAW's advance", "what"]
    let cells = rows.map { row in
      [
        row.isWrong ? "!" : row.isMarked ? ">" : "", "\(row.event.number)", row.event.who, row.at,
        row.clock, row.advance, row.raw, row.what,
      ]
    }
    let widths = heads.indices.map { column in
      ([heads] + cells).map { $0[column].count }.max() ?? 0
    }
    let isRight = [false, true, false, true, true, true, true, false]
    return ([heads] + cells).map { cells -> String in
      var padded = cells.indices.map { column -> String in
        let space = String(repeating: " ", count: widths[column] - cells[column].count)
        return isRight[column] ? space + cells[column] : cells[column] + space
      }
      padded[cells.count - 1] = Plain.oneLine(cells[cells.count - 1], limit: 200)
      return padded.joined(separator: "  " as String)
    }
  }
}

extension Event {
  /// "vcpu0", and the machine where several are alive.
  var who: String { machine.map { "vm\($0) \(actor)" } ?? "\(actor)" }
}

extension Action {
  /// What was done or seen, in the kernel's own names.
  var plain: String {
    switch self {
    case .wroteMSR(let msr, let value, let fault):
      "wrote MSR \(msr) = \(value)" + (fault.map { ", took exception \($0.vector)" } ?? "")
    case .readMSR(let msr, let value, let fault):
      "read MSR \(msr)" + (fault.map { ", took exception \($0.vector)" } ?? " = \(value)")
    case .hostWroteMSR(let vcpu, let msr, let value): "wrote vcpu\(vcpu)'s MSR \(msr) = \(value)"
    case .hostReadMSR(let vcpu, let msr, let value): "read vcpu\(vcpu)'s MSR \(msr) = \(value)"
    case .read(let address, let ring, let reading, let settled):
      "read the record at \(address) in ring \(ring)\(settled ? "" : ", never settled"): "
        + "TSC \(reading.tsc), \(reading.page.plain)"
    case .ranL2(let offset): "is L2 from here on, its TSC L1's plus \(offset)"
    case .leftL2: "is L1 again"
    case .readInL2(let address, let reading, let settled):
      "read the record at \(address) in L2\(settled ? "" : ", never settled"): "
        + "TSC \(reading.tsc), \(reading.page.plain)"
    case .page(let vcpu, let address, let page):
      "vcpu\(vcpu)'s record at \(address): \(page.plain)"
    case .getClock(let record): "KVM_GET_CLOCK: \(record.plain)"
    case .setClock(let record): "KVM_SET_CLOCK: \(record.plain)"
    case .vmCreated: "made the VM"
    case .vcpuCreated(let vcpu): "made vcpu\(vcpu)"
    case .booted(let vcpu, let guest, let mode):
      "booted \(guest) on vcpu\(vcpu) in \(mode.rawValue) mode"
    case .entered: "entered the guest"
    case .tick: "read the host's clocks"
    case .looped(let guest, let result):
      "\(guest): \(result.reads) readings, \(result.backwards) steps back, the worst \(result.worst) ns"
    case .raced(let race, let owner, let result):
      "race \(race) on vcpu\(owner)'s record: \(result.backwards) steps back, the worst \(result.worst) ns"
    case .watched(let guest, let owner, let address, let result):
      "\(guest) watched vcpu\(owner)'s record at \(address): \(result.reads) readings, \(result.torn) torn"
    case .compared(let changes):
      changes.isEmpty
        ? "compared the memories: nothing changed"
        : "compared the memories: changed "
          + changes.map { "\($0.bytes.bytes.count) bytes at \($0.offset) of memory \($0.memory)" }
          .joined(separator: ", ")
    case .hostClock(let name, let nanoseconds): "\(name) was \(nanoseconds) ns"
    case .toldStopped(let vcpu, let errno):
      "KVM_KVMCLOCK_CTRL of vcpu\(vcpu)" + (errno.isError ? ": \(errno)" : "")
    case .setTSCOffset(let vcpu, let cycles): "set vcpu\(vcpu)'s TSC offset to \(cycles)"
    case .tscOffset(let vcpu, let cycles): "vcpu\(vcpu)'s TSC offset is \(cycles)"
    case .stopped(let exit): "the guest ended with \(exit)"
    case .lacking(let what, let evidence): "lacking \(what): \(evidence)"
    case .failed(let reason): "failed: \(reason)"
    case .disturbed(let how): "disturbed: \(how)"
    default: raw
    }
  }

  /// As a saved history has it, the kind of event first: "wroteMSR {msr:0x12,…}".
  var raw: String {
    // {"wroteMSR":{…}}
    let json = JSONText.line(self)
    let parts = json.dropFirst(2).split(separator: "\"", maxSplits: 1)
    guard parts.count == 2 else { return json }
    return "\(parts[0]) \(parts[1].dropFirst().dropLast().filter { $0 != "\"" })"
  }
}

extension ClockPage {
  /// Under the kernel's names.
  fileprivate var plain: String {
    "version \(version), tsc_timestamp \(tscTimestamp), system_time \(systemTime), "
      + "mul \(tscToSystemMultiplier), shift \(tscShift), flags \(flags.rawValue)"
  }
}

extension ClockRecord {
  fileprivate var plain: String {
    "clock \(clock), flags \(flags)" + (hasRealtime ? ", realtime \(realtime)" : "")
      + (hasHostTSC ? ", host_tsc \(hostTSC)" : "")
  }
}
