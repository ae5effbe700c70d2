internal import PVClock

/// A VM that was saved, and went on as the machine made next.
struct Move: Sendable {
  /// What its guests read before, in order.
  var source: [Observation] = []
  var saved: (event: Event, record: ClockRecord)
  /// Each vCPU's TSC offset when it was saved, and on the new machine; absent where it is unknown.
  var savedOffsets: [Int: UInt64] = [:]
  var offsets: [Int: UInt64] = [:]
  /// Whether the guest's last write on vCPU 0 went to the old MSR.
  var wasOnOldMSR = false
  /// vCPUs whose guest was told that it was stopped: it entered after that and before it was saved; or on the new
  /// machine, before it first read.
  var told: [Int: Event] = [:]
  /// The setting of the new machine's clock.
  var set: (event: Event, record: ClockRecord)?
  /// After that the first two readings of each vCPU: the second one is mostly quicker.
  var after: [Observation] = []
  /// vCPU 0's first reading after its own next write of the old MSR.
  var afterOwnWrite: Observation?

  func first(of vcpu: Int) -> Observation? { after.first { $0.vcpu == vcpu } }
}

/// The forward pass that finds the moves.
struct MovePass {
  private(set) var moves: [Move] = []
  private var current: Move?
  private var pending: Move?
  private var readings: [Observation] = []
  private var clock: (event: Event, record: ClockRecord)?
  private var offsets: [Int: UInt64] = [:]
  private var told: [Int: (event: Event, hasEntered: Bool)] = [:]
  /// The last value of each vCPU's system-time MSR.
  private var registered: [Int: UInt64] = [:]
  private var newest = NewestPair()

  /// The moves so far, with the one that the history ends in.
  var all: [Move] { moves + (current.map { [$0] } ?? []) }

  mutating func take(_ event: Event) {
    _ = newest.take(event)
    if case .vcpu(let vcpu) = event.actor { told[vcpu]?.hasEntered = true }
    switch event.action {
    case .vmCreated: begin()
    case .getClock(let record): clock = (event, record)
    case .tscOffset(let vcpu, let cycles):
      offsets[vcpu] = cycles
      current?.offsets[vcpu] = cycles
    case .toldStopped(let vcpu, .none):
      told[vcpu] = (event, false)
      if current?.first(of: vcpu) == nil { current?.told[vcpu] = event }
    case .saved: save()
    case .hostWroteMSR(let vcpu, let msr, let value) where MSR.isSystemTime(msr):
      register(vcpu, value.value)
    case .wroteMSR(let msr, let value, nil) where MSR.isSystemTime(msr):
      if case .vcpu(let vcpu) = event.actor { register(vcpu, value.value) }
    case .replugged(let vcpu, _): register(vcpu, 0)
    case .poked, .filled: for vcpu in registered.keys { forget(vcpu) }
    case .setClock(let record):
      // A setting after a reading ends what can be said of the one before.
      if current?.after.isEmpty == false { end() }
      current?.set = (event, record)
      (readings, clock) = ([], nil)
    default: break
    }
  }

  mutating func take(_ reading: Observation) {
    guard let vcpu = reading.vcpu else { return }
    readings.append(reading)
    guard let set = current?.set, set.event.ended.raw <= reading.event.began.raw else { return }
    if (current?.after.count { $0.vcpu == vcpu } ?? 2) < 2 { current?.after.append(reading) }
    if vcpu == 0, newest.isBootVCPUOnOldMSR, current?.afterOwnWrite == nil {
      current?.afterOwnWrite = reading
    }
  }

  /// That a guest was told stands in its record: in another one nobody has to see it.
  private mutating func register(_ vcpu: Int, _ value: UInt64) {
    if registered[vcpu] != value || value & 1 == 0 { forget(vcpu) }
    registered[vcpu] = value
  }

  private mutating func forget(_ vcpu: Int) {
    told[vcpu] = nil
    current?.told[vcpu] = nil
  }

  private mutating func begin() {
    end()
    current = pending
    pending = nil
    (readings, clock, offsets, told) = ([], nil, [:], [:])
  }

  private mutating func end() {
    if let current { moves.append(current) }
    current = nil
  }

  private mutating func save() {
    guard let clock else { return }
    let source = readings.filter { $0.event.ended.raw <= clock.event.began.raw }
    var move = Move(source: source, saved: clock)
    move.savedOffsets = offsets
    move.wasOnOldMSR = newest.isBootVCPUOnOldMSR
    move.told = told.filter(\.value.hasEntered).mapValues(\.event)
    pending = move
  }
}

extension Timeline {
  var moves: [Move] {
    var pass = MovePass()
    var next = 0
    for (index, event) in history.events.enumerated() {
      pass.take(event)
      while next < observations.count, observations[next].index == index {
        pass.take(observations[next])
        next += 1
      }
    }
    return pass.all
  }

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
