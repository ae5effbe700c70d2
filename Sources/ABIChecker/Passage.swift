internal import PVClock

/// From one answer of a VM's vCPUs to the next one, with what the VMM was asked for between: also on another machine, to which
/// the VM was migrated or restored.
struct Passage: Sendable {
  struct Answer: Sendable {
    let event: Event
    let result: SampleResult

    var page: ClockPage { result.last.page }
    var isStable: Bool { page.flags.contains(.tscStable) }
    var isStopped: Bool { page.flags.contains(.guestStopped) }
  }

  let before: [Int: Answer]
  let after: [Int: Answer]
  let verbs: [Event]
  /// The guest's writes of the system-time MSR.
  let writes: [Event]
  /// vCPUs that were plugged before.
  let plugs: Int

  /// vCPUs that answered both times.
  var vcpus: [Int] { after.keys.filter { before[$0] != nil }.sorted() }

  func did(_ verb: VMMVerb) -> Bool {
    verbs.contains { $0.vmm?.verb == verb && $0.vmm?.failure == nil }
  }

  func failed(_ verb: VMMVerb) -> Bool {
    verbs.contains { $0.vmm?.verb == verb && $0.vmm?.failure != nil }
  }

  var isStopped: Bool { did(.pause) || did(.restore) || did(.migrate) }
  var isPause: Bool { did(.pause) && !did(.save) && !did(.restore) && !did(.migrate) }

  /// How long the guest was kept from running, at least and at most, in nanoseconds of CLOCK_MONOTONIC_RAW.
  var stop: Interval {
    var stop = Interval(0, 0)
    var pause: Event?
    var wentOn: Event?
    for event in verbs where event.vmm?.failure == nil {
      switch event.vmm?.verb {
      case .pause?: pause = pause ?? event
      case .restore?: wentOn = event
      case .migrate?: if pause == nil { stop.upper += event.width }
      case .resume?:
        if let pause { stop = stop + pause.elapsed(to: event) }
        (pause, wentOn) = (nil, nil)
      default: break
      }
    }
    if let pause, let wentOn { stop = stop + pause.elapsed(to: wentOn) }
    return stop
  }
}

extension Event {
  var vmm: (verb: VMMVerb, failure: VMMFailure?)? {
    if case .vmm(let verb, _, let failure) = action { (verb, failure) } else { nil }
  }
}

extension Timeline {
  /// What the VMs under a VMM went through, in order.
  var passages: [Passage] {
    var fold = PassageFold()
    for event in history.events { fold.take(event) }
    fold.close()
    return fold.passages
  }

  /// The same, from one answer with bit 0 to the next one: the old MSR on vCPU 0 takes it away for a while.
  var rewrites: [Passage] {
    var found: [Passage] = []
    var last: [Int: (answer: Passage.Answer, writes: [Event])] = [:]
    for passage in passages {
      if !passage.verbs.isEmpty { last = [:] }
      for (vcpu, answer) in passage.after.sorted(by: { $0.key < $1.key }) {
        last[vcpu]?.writes += passage.writes
        guard answer.isStable else { continue }
        if let (before, writes) = last[vcpu], !writes.isEmpty {
          found.append(
            Passage(
              before: [vcpu: before], after: [vcpu: answer], verbs: [], writes: writes, plugs: 0))
        }
        last[vcpu] = (answer, [])
      }
    }
    return found
  }

  /// What the clock is said to do over a pause, or from a save to a restore.
  func declared(over verb: VMMVerb) -> ClockPolicy? {
    for event in history.events {
      if case .declared(verb, let clock) = event.action { return clock }
    }
    return nil
  }

  /// What may be between the clock of a VM and CLOCK_MONOTONIC_RAW at an event: what a new pair makes good at once.
  func slack(until event: Event) -> Int128 {
    guard let first = history.events.first else { return rounding }
    return drift(from: first.began, until: event) + rounding
  }
}

/// Follows the machines from answer to answer.
private struct PassageFold {
  private struct Line {
    var before: [Int: Passage.Answer] = [:]
    var verbs: [Event] = []
    var writes: [Event] = []
    var plugs = 0
    /// The answers to the question of now.
    var now: [Int: Passage.Answer] = [:]
    var asked: UInt64?
  }

  private(set) var passages: [Passage] = []
  private var lines: [Int: Line] = [:]
  private var saved: [Int: Line] = [:]

  mutating func take(_ event: Event) {
    let machine = event.machine ?? 0
    switch (event.action, event.actor) {
    case (.sampled(_, let result), .vcpu(let vcpu)):
      if lines[machine]?.asked != event.began.raw { close(machine) }
      lines[machine, default: Line()].asked = event.began.raw
      lines[machine]?.now[vcpu] = Passage.Answer(event: event, result: result)
    case (.wroteMSR(let msr, _, nil), _) where MSR.isSystemTime(msr):
      close(machine)
      lines[machine, default: Line()].writes.append(event)
    case (.vmm(let verb, let other, let failure), _):
      close(machine)
      lines[machine, default: Line()].verbs.append(event)
      guard failure == nil else { return }
      follow(verb, machine, other, event)
    default: break
    }
  }

  private mutating func follow(_ verb: VMMVerb, _ machine: Int, _ other: Int?, _ event: Event) {
    switch verb {
    case .start: lines[machine] = Line()
    case .save: if let other { saved[other] = lines[machine] }
    case .restore:
      guard let other, var line = saved[other] else { return }
      line.verbs.append(event)
      lines[machine] = line
    case .migrate:
      guard let other else { return }
      lines[other] = lines[machine]
    default: break
    }
  }

  /// All vCPUs have answered: that ends a passage, and begins the next one.
  private mutating func close(_ machine: Int) {
    guard var line = lines[machine], !line.now.isEmpty else { return }
    passages.append(
      Passage(
        before: line.before, after: line.now, verbs: line.verbs, writes: line.writes,
        plugs: line.plugs))
    line = Line(before: line.now, plugs: line.plugs + (passages.last!.did(.plug) ? 1 : 0))
    lines[machine] = line
  }

  mutating func close() { for machine in lines.keys.sorted() { close(machine) } }
}
