internal import PVClock

/// A VM that was saved, and went on as the machine made next.
struct Move: Sendable {
  /// The guests' readings before, on the clock that was saved.
  let source: [Observation]
  let saved: (event: Event, record: ClockRecord, observation: Observation)
  /// Whether the guest's last write on vCPU 0 went to the old MSR.
  let wasOnOldMSR: Bool
  /// The setting of the new machine's clock.
  let set: (event: Event, record: ClockRecord)
  /// After it the first two readings of each vCPU: the second one is mostly quicker.
  let after: [Observation]
  /// vCPU 0's first reading after its own next write of the old MSR.
  let afterOwnWrite: Observation?
  /// vCPUs whose guest was told that it was stopped, on the old machine with an entry after that, or on the new one before
  /// its first reading.
  let told: [Int: Event]
  /// The vCPUs whose TSC offset is the same on both machines.
  let withSameTSCOffset: Set<Int>

  func first(of vcpu: Int) -> Observation? { after.first { $0.vcpu == vcpu } }
}

extension Timeline {
  /// Every machine that was saved and gone on with: its clock was read before, the new machine's was set, and read.
  var moves: [Move] {
    machines.flatMap { machine in
      machine.steps.filter { $0.event.action == .saved }.compactMap { saved in
        let next = machines.first { $0.steps.first.map { $0.index > saved.index } ?? false }
        return next.flatMap {
          Move(of: machine.steps.prefix { $0.index < saved.index }, to: $0.steps)
        }
      }
    }
  }
}

extension Move {
  /// - Parameters:
  ///   - past: the old machine until it was saved.
  ///   - target: the new machine.
  fileprivate init?(of past: ArraySlice<Step>, to target: [Step]) {
    guard let last = past.last,
      let clock = past.last(where: { $0.savedClock != nil }), let record = clock.savedClock,
      clock.machine.epoch == last.machine.epoch, let observation = clock.observations.first,
      let first = target.first(where: \.isReadingOnASetClock),
      let setting = first.machine.setting
    else { return nil }
    saved = (clock.event, record, observation)
    source = past.flatMap(\.observations).filter {
      $0.vcpu != nil && $0.epoch == observation.epoch
        && $0.event.ended.raw <= clock.event.began.raw
    }
    wasOnOldMSR = last.machine.isBootVCPUOnOldMSR
    set = (setting.event, setting.record)
    // The next setting ends the comparison with the saved clock.
    let span = target.prefix { ($0.machine.setting?.index ?? 0) <= setting.index }
    let readings = span.filter(\.isReadingOnASetClock)
    after = Self.firstTwo(of: readings.flatMap(\.observations))
    afterOwnWrite =
      readings.first { $0.vcpu == 0 && $0.machine.isBootVCPUOnOldMSR }?.observations.first
    told = Self.told(past, span)
    let offsets = (Self.offsets(past), Self.offsets(span))
    withSameTSCOffset = Set(offsets.0.keys.filter { offsets.0[$0] == offsets.1[$0] })
  }

  private static func firstTwo(of readings: [Observation]) -> [Observation] {
    var seen: [Int: Int] = [:]
    return readings.filter { reading in
      guard let vcpu = reading.vcpu else { return false }
      seen[vcpu, default: 0] += 1
      return seen[vcpu]! <= 2
    }
  }

  /// The TSC offsets that were read last.
  private static func offsets(_ steps: some Sequence<Step>) -> [Int: UInt64] {
    var offsets: [Int: UInt64] = [:]
    for step in steps {
      if case .tscOffset(let vcpu, let cycles) = step.event.action { offsets[vcpu] = cycles }
    }
    return offsets
  }

  /// The guest learns it from a flag in its record: who got another record, or had memory written, need not see it.
  private static func told(_ past: ArraySlice<Step>, _ span: ArraySlice<Step>) -> [Int: Event] {
    var told: [Int: (event: Event, record: UInt64, hasEntered: Bool)] = [:]
    var read: Set<Int> = []
    func follow(_ step: Step) {
      if case .poked = step.event.action { told = told.filter { read.contains($0.key) } }
      if case .filled = step.event.action { told = told.filter { read.contains($0.key) } }
      guard let vcpu = step.vcpu, !read.contains(vcpu) else { return }
      if case .toldStopped(_, .none) = step.event.action {
        told[vcpu] = step.after.record.map { (step.event, $0, false) }
      }
      if step.isEntry { told[vcpu]?.hasEntered = true }
      let isGone = step.event.isSystemTimeWrite || step.after.reset?.event == step.event
      if isGone, step.after.record != told[vcpu]?.record { told[vcpu] = nil }
    }
    past.forEach(follow)
    told = told.filter(\.value.hasEntered)
    for step in span {
      follow(step)
      guard let vcpu = step.vcpu, step.isReadingOnASetClock else { continue }
      if !read.contains(vcpu), step.after.record != told[vcpu]?.record { told[vcpu] = nil }
      read.insert(vcpu)
    }
    return told.mapValues(\.event)
  }
}

extension Step {
  fileprivate var savedClock: ClockRecord? {
    if case .getClock(let record) = event.action { record } else { nil }
  }

  /// Whether a guest read its clock after the host had set it.
  fileprivate var isReadingOnASetClock: Bool {
    guard let setting = machine.setting, observations.first?.vcpu != nil else { return false }
    return setting.event.ended.raw <= event.began.raw
  }
}

extension Timeline {
  /// What CLOCK_REALTIME may have been during an event, by the readings next to it on both sides; nil without them,
  /// and where it was set back between them.
  func realtime(around event: Event) -> Interval? {
    var before: UInt64?
    for other in history.events {
      guard case .hostClock("CLOCK_REALTIME", let nanoseconds) = other.action else { continue }
      if other.ended.raw <= event.began.raw { before = nanoseconds }
      if other.began.raw >= event.ended.raw {
        guard let before, before <= nanoseconds else { return nil }
        return Interval(Int128(before), Int128(nanoseconds))
      }
    }
    return nil
  }
}
