extension History {
  /// The first event that cannot have happened after those before it, and why; event 0 is the header. Nil if all can have.
  ///
  /// A host can only be blamed by a recording of what it did.
  public var impossibility: (event: Int, reason: String)? {
    if header.host.tscKHz == 0 { return (0, "the host's TSC has 0 kHz") }
    guard !events.isEmpty else { return (0, "nothing was done") }
    var machines = Machines(areKnown: !header.isInside && header.host.vmm == nil)
    let onTSC = header.host.clocksource == "tsc"
    var latest: [Actor: Event] = [:]
    for event in events {
      // A process inside a guest writes down one CPU's readings after another's.
      let writer = header.isInside ? event.actor : .host
      if let reason = event.impossibility(after: latest[writer], onTSC: onTSC)
        ?? machines.take(event)
      {
        return (event.number, reason)
      }
      if event.began.raw >= latest[writer]?.began.raw ?? 0 { latest[writer] = event }
    }
    return nil
  }
}

extension Event {
  /// - Parameter latest: the event before it that began last.
  fileprivate func impossibility(after latest: Event?, onTSC: Bool) -> String? {
    if ended.raw < began.raw { return "event \(number) ended before it began" }
    // A reader of hpet beside another one is given what that one found a little earlier.
    let delay: UInt64 = onTSC ? 0 : 1_000_000
    // Loops run beside other events, and are written down when they end; so do those who supply pages, later still.
    if case .pageSupplied = action { return nil }
    if let latest, ended.raw < latest.began.raw, latest.began.raw - ended.raw > delay {
      return "event \(number) ended at \(ended.raw) ns, and event \(latest.number), before it, "
        + "began at \(latest.began.raw) ns: CLOCK_MONOTONIC_RAW does not step back"
    }
    return nil
  }
}

/// Which machines and vCPUs there are.
private struct Machines {
  /// Whether the history shows the making of each: those of a VMM, and that around a process inside a guest, it does not.
  let areKnown: Bool
  private var alive: [(name: Int?, vcpus: Set<Int>)] = []

  init(areKnown: Bool) { self.areKnown = areKnown }

  /// Why the event cannot have happened, if so.
  mutating func take(_ event: Event) -> String? {
    guard areKnown else { return nil }
    if event.action == .vmCreated {
      alive.removeAll { event.machine == nil || $0.name == event.machine }
      alive.append((event.machine, []))
      return nil
    }
    guard let vcpu = event.vcpu ?? event.owner else { return nil }
    let place =
      event.machine == nil
      ? alive.indices.last : alive.lastIndex { $0.name == event.machine }
    guard let place else { return "vcpu\(vcpu) has no machine: none was made" }
    if case .vcpuCreated = event.action {
      alive[place].vcpus.insert(vcpu)
      return nil
    }
    return alive[place].vcpus.contains(vcpu) ? nil : "vcpu\(vcpu) was not made before"
  }
}

extension Event {
  /// The vCPU whose record another one looks at.
  fileprivate var owner: Int? {
    switch action {
    case .watched(_, let owner, _, _), .raced(_, let owner, _): owner
    default: nil
    }
  }
}
