/// Two values of the clock, one after the other, and what may lie between them.
public struct ClockStep: Hashable, Sendable {
  /// The events in which the two were read.
  public var from: Event
  public var to: Event
  /// The vCPUs whose records were read; nil for `KVM_GET_CLOCK`.
  public var fromVCPU: Int?
  public var toVCPU: Int?
  /// The later value less the earlier one, and the bounds that CLOCK_MONOTONIC_RAW sets to it, in nanoseconds.
  public var advance: Int64
  public var lower: Int64
  public var upper: Int64
  /// What happened to the clock between the two; nil where nothing did.
  public var cause: Event?

  public var isWrong: Bool { advance < lower || advance > upper }

  /// Which way the clock went wrong and at what: steps of one kind in several histories have one cause. Nil where nothing
  /// was done to the clock between the two readings.
  public var kind: String? {
    cause?.deed.map { "\(advance < lower ? "back" : "ahead") \($0)" }
  }

  /// In the guest's terms: "the guest's clock went back 405.5 us when vCPU 0 wrote the system-time MSR".
  public var sentence: String {
    let clock = toVCPU == nil ? "KVM_GET_CLOCK" : "the guest's clock"
    let what =
      if advance < 0 {
        "went back \(short(-Int128(advance)))"
      } else if advance < lower {
        "lost \(short(Int128(lower) - Int128(advance)))"
      } else {
        "gained \(short(Int128(advance) - Int128(upper)))"
      }
    return "\(clock) \(what) \(when)"
  }

  private var when: String {
    if let deed = cause?.deed { return deed }
    switch (fromVCPU, toVCPU) {
    case (let one?, let other?) where one != other: return "from vCPU \(one) to vCPU \(other)"
    case (let one?, nil): return "compared with vCPU \(one)'s clock"
    case (nil, let one?): return "on vCPU \(one), compared with KVM_GET_CLOCK"
    default: return "between two readings"
    }
  }
}

extension Event {
  /// What the event does to a guest's clock or its record, as the end of a sentence; nil if it does nothing to them.
  public var deed: String? {
    switch action {
    case .wroteMSR(let msr, _, nil) where MSR.isSystemTime(msr):
      "when \(name) wrote the system-time MSR"
    case .wroteMSR(let msr, _, nil) where MSR.movesTSC(msr): "when \(name) wrote its TSC"
    case .hostWroteMSR(let vcpu, let msr, _) where MSR.isSystemTime(msr):
      "when the host wrote vCPU \(vcpu)'s system-time MSR"
    case .hostWroteMSR(let vcpu, let msr, _) where MSR.movesTSC(msr):
      "when the host wrote vCPU \(vcpu)'s TSC"
    case .setTSCOffset(let vcpu, _): "when the host set vCPU \(vcpu)'s TSC offset"
    case .setTSCKHz: "when the host set a TSC frequency"
    case .setClock: "when the host set the clock"
    case .replugged(let vcpu, _): "when vCPU \(vcpu) was reset"
    case .vcpuCreated(let vcpu): "when vCPU \(vcpu) was added"
    case .saved, .vmCreated: "over a restore"
    case .toldStopped(let vcpu, _): "when the host told vCPU \(vcpu) that it was stopped"
    case .slotSet, .slotDeleted, .remapped, .protected: "when the memory slots changed"
    case .hostChanged(let what, let value, _): "when the host's \(what) became \(value)"
    case .vmm(let verb, _, _): "over the VMM's \(verb.rawValue)"
    default: nil
    }
  }

  private var name: String {
    if case .vcpu(let number) = actor { "vCPU \(number)" } else { "the host" }
  }
}

extension Timeline {
  /// The values of the clock, each with the one before it on the same machine and clock, where there is one.
  public var clockSteps: [(value: UInt64, event: Event, step: ClockStep?)] {
    var last: [Int: Observation] = [:]
    return observations.map { observation in
      defer { last[observation.epoch] = observation }
      let earlier = last[observation.epoch]
      return (
        observation.value, observation.event, earlier.flatMap { step(from: $0, to: observation) }
      )
    }
  }

  /// The step of the clock that some events prove wrong; nil if what they prove is of another kind.
  public func wrongStep(_ events: [Int]) -> ClockStep? {
    let cited = observations.filter { events.contains($0.event.number) }
    var steps: [ClockStep] = []
    for (place, later) in cited.enumerated() {
      for earlier in cited.prefix(place) where earlier.epoch == later.epoch {
        if let step = step(from: earlier, to: later), step.isWrong { steps.append(step) }
      }
    }
    // The nearest two readings say best when it happened.
    return steps.min { $0.to.number - $0.from.number < $1.to.number - $1.from.number }
  }

  /// The first step of the clock that is wrong, up to an event.
  public func firstWrongStep(until event: Int) -> ClockStep? {
    clockSteps.lazy.compactMap(\.step).first { $0.isWrong && $0.to.number <= event }
  }

  private func step(from earlier: Observation, to later: Observation) -> ClockStep? {
    guard earlier.event.ended.raw <= later.event.began.raw, earlier.index < later.index else {
      return nil
    }
    let allowed = allowedAdvance(from: earlier, to: later)
    let between = history.events[(earlier.index + 1)..<later.index]
    return ClockStep(
      from: earlier.event, to: later.event, fromVCPU: earlier.vcpu, toVCPU: later.vcpu,
      advance: Int64(bitPattern: later.value &- earlier.value),
      lower: Int64(clamping: allowed.lower), upper: Int64(clamping: allowed.upper),
      cause: between.last { $0.machine == later.event.machine && $0.deed != nil })
  }
}
