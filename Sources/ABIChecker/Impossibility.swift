extension History {
  /// The first event that cannot have happened after those before it, and why; event 0 is the header. Nil if all can have.
  ///
  /// A host can only be blamed by a recording of what it did.
  public var impossibility: (event: Int, reason: String)? {
    if header.host.tscKHz == 0 { return (0, "the host's TSC has 0 kHz") }
    guard !events.isEmpty else { return (0, "nothing was done") }
    var machines = Machines(areKnown: !header.isInside && header.host.vmm == nil)
    let readsTSC =
      header.host.clocksource == "tsc" && !events.contains(where: \.isClocksourceChange)
    // The event that began last: of all, and of each thread.
    var latest: Event?
    var latestOf: [Thread: Event] = [:]
    for event in events {
      let thread = Thread(machine: event.machine, actor: event.actor)
      // A process inside a guest writes down one CPU's readings after another's; and a reader of hpet is given what
      // another one found, perhaps before.
      let isOrdered = readsTSC && !header.isInside && !event.ranBesideOthers
      if let reason = event.impossibility(after: isOrdered ? latest : latestOf[thread])
        ?? machines.take(event)
      {
        return (event.number, reason)
      }
      if event.began.raw >= latest?.began.raw ?? 0 { latest = event }
      if event.began.raw >= latestOf[thread]?.began.raw ?? 0 { latestOf[thread] = event }
    }
    return nil
  }
}

/// Who does one thing after another.
private struct Thread: Hashable {
  var machine: Int?
  var actor: Actor
}

extension Event {
  fileprivate var isClocksourceChange: Bool {
    if case .hostChanged("clocksource", _, nil) = action { true } else { false }
  }

  /// Whether it is written down when others of other threads have been, that began after its end.
  fileprivate var ranBesideOthers: Bool {
    switch action {
    case .looped, .raced, .watched, .watchedWallClock, .stormed: true
    default: false
    }
  }

  /// - Parameter latest: an event that had begun when this one did, or before.
  fileprivate func impossibility(after latest: Event?) -> String? {
    if ended.raw < began.raw { return "event \(number) ended before it began" }
    // Threads of their own supply pages, and what they did is written down last.
    if case .pageSupplied = action { return nil }
    if let latest, ended.raw < latest.began.raw {
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
  private var alive: [(name: Int?, vcpus: Set<Int>, inL2: Set<Int>)] = []

  init(areKnown: Bool) { self.areKnown = areKnown }

  /// Why the event cannot have happened, if so.
  mutating func take(_ event: Event) -> String? {
    guard areKnown else { return nil }
    if event.action == .vmCreated {
      alive.removeAll { event.machine == nil || $0.name == event.machine }
      alive.append((event.machine, [], []))
      return nil
    }
    guard let vcpu = event.vcpu ?? event.owner else { return nil }
    let place =
      event.machine == nil
      ? alive.indices.last : alive.lastIndex { $0.name == event.machine }
    guard let place else { return "vcpu\(vcpu) has no machine: none was made" }
    if case .vcpuCreated = event.action {
      alive[place].vcpus.insert(vcpu)
      alive[place].inL2.remove(vcpu)
      return nil
    }
    guard alive[place].vcpus.contains(vcpu) else { return "vcpu\(vcpu) was not made before" }
    return alive[place].inL2.nesting(vcpu, event.action)
  }
}

extension Set<Int> {
  /// Follows which vCPUs run a guest of their guest; why the action cannot have happened, if so.
  fileprivate mutating func nesting(_ vcpu: Int, _ action: Action) -> String? {
    let isIn = contains(vcpu)
    switch action {
    case .ranL2 where isIn: return "vcpu\(vcpu) ran L2 already"
    case .leftL2 where !isIn, .readInL2 where !isIn: return "vcpu\(vcpu) did not run L2"
    case .read where isIn: return "vcpu\(vcpu) ran L2, and L1 does not read then"
    case .ranL2: insert(vcpu)
    case .leftL2, .booted, .replugged: remove(vcpu)
    default: break
    }
    return nil
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
