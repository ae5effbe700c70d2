internal import PVClock

// Section H of the catalogue: the wall clock's record after it was written, and written again.

extension Rule {
  static let wallOneshot = Rule(
    "WALL-ONESHOT",
    "The record is written at the write of the MSR and never again: not by time, not by KVM_SET_CLOCK, not by an entry or "
      + "a write of the system-time MSR.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW (\"only guaranteed to update this data at the moment "
      + "of MSR write\"); arch/x86/kvm/x86.c, kvm_write_wall_clock()",
    method:
      "Look at the record; wait, set the clock, enter, register again on both vCPUs; look again.",
    scenarios: [.wallLater],
    faults: [
      "KVM_SET_CLOCK writes the wall clock record anew", "every update of a clock record does",
    ]
  ) { timeline in
    var findings = Findings()
    for write in timeline.wallWrites {
      guard let (first, start, bytes) = write.look else { continue }
      var isSet = false
      var isEntered = false
      for event in timeline.history.events.dropFirst(write.index + 1) {
        if event.endsWallRecord(write) { break }
        if case .setClock = event.action { isSet = true }
        if event.actor != .host { isEntered = isSet }
        guard event.number > first.number,
          case .memory(let address, let later) = event.action, address.value == start,
          later.bytes.count == bytes.count
        else { continue }
        guard isEntered || later.bytes != bytes else { continue }
        findings.expect(
          later.bytes == bytes, at: [write.event, first, event],
          "the bytes at \(Hex(start)) as the write of \(write.msr) left them: "
            + (write.record.map(describe) ?? ""),
          seen: describeWall(later.bytes, write))
      }
    }
    return findings.outcome(
      atLeast: 4, "records over a setting of the clock and an entry", in: timeline)
  }

  static let wallFollowsSetclock = Rule(
    "WALL-FOLLOWS-SETCLOCK",
    "After KVM_SET_CLOCK the next write of the MSR gives the new epoch: by what the clock was set forward it has moved back.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW: the sum of both clocks is the current time",
    method: "Write, set the clock by an hour and more forward and back, write again.",
    scenarios: [.wallLater],
    faults: ["the epoch of the VM's creation is kept over KVM_SET_CLOCK"]
  ) { timeline in
    var findings = Findings()
    let spans = timeline.realtimeSpans
    var last: (write: WallWrite, record: WallClock)?
    for write in timeline.wallWrites {
      guard let record = write.record else { continue }
      defer { last = (write, record) }
      guard let before = last, before.write.machine == write.machine,
        before.write.epoch != write.epoch, let epoch = timeline.epoch(of: write, spans),
        isExpressible(epoch.allowed)
      else { continue }
      let old = Int128(before.record.epochNanoseconds)
      let moved = Interval(epoch.allowed.lower - old, epoch.allowed.upper - old)
      guard moved.lower > 1_000_000_000 || moved.upper < -1_000_000_000 else { continue }
      findings.expect(
        Int128(record.epochNanoseconds) - old, in: moved, limit: Timeline.widestUseful,
        at: [before.write.event] + epoch.events,
        "sec * 10^9 + nsec to move since the write before the setting by an amount",
        why: "CLOCK_REALTIME less kvmclock, which KVM_SET_CLOCK has moved the other way")
    }
    return findings.outcome(atLeast: 3, "writes after a setting of the clock", in: timeline)
  }

  static let wallRewriteStable = Rule(
    "WALL-REWRITE-STABLE",
    "With the master clock the epoch does not depend on when the MSR is written: CLOCK_REALTIME and kvmclock are taken at "
      + "one reading of the TSC.",
    source: "Linux 5d6d6a7d7e66 (6.7)",
    method:
      "Write the MSR hundreds of times, CLOCK_REALTIME between; from one write to the next the epoch moves by no more than "
      + "CLOCK_REALTIME was slewed, measured before, during and after. One move could be a step of CLOCK_REALTIME; up and down "
      + "is not.",
    scenarios: [.wallRewrite], since: "6.7",
    faults: ["kvm_get_wall_clock_epoch() reads the two clocks one after the other (as before 6.7)"]
  ) { timeline in
    var findings = Findings()
    let jumps = timeline.wallJumps
    let outside = jumps.filter { !$0.allowed.contains($0.moved) }
    let isUpAndDown = outside.contains { $0.moved > 0 } && outside.contains { $0.moved < 0 }
    if !outside.isEmpty, !isUpAndDown {
      return .inconclusive(
        reason: "the epoch moved by \(nanoseconds(outside[0].moved)) between events "
          + "\(outside[0].events.map(\.number)): CLOCK_REALTIME may have been stepped")
    }
    for jump in jumps {
      findings.expect(
        jump.moved, in: jump.allowed, limit: 2000, at: jump.events,
        "the epoch to move from one write to the next by an amount",
        why:
          "CLOCK_REALTIME's slew against CLOCK_MONOTONIC_RAW, measured around the writes, and rounding"
      )
    }
    if jumps.isEmpty {
      findings.lacks("no writes in master-clock mode with readings of CLOCK_REALTIME around them")
    }
    let worst = jumps.map { $0.moved.magnitude }.max() ?? 0
    return findings.outcome(
      atLeast: 200, "re-writes, the epoch within \(worst) ns from one to the next", in: timeline)
  }

  static let wallDrift = Rule(
    "WALL-DRIFT",
    "The epoch is no constant: kvmclock runs at CLOCK_MONOTONIC_RAW's rate, CLOCK_REALTIME is disciplined by NTP.",
    source: "Linux 53fafdbb8b21 (5.5)",
    method: "The first and the last of hundreds of writes.",
    scenarios: [.wallRewrite], isObservation: true
  ) { timeline in
    let written = timeline.wallWrites.filter { $0.record != nil }
    guard let first = written.first, let last = written.last, first.epoch == last.epoch,
      let old = first.record, let new = last.record,
      case let elapsed = Int128(last.event.began.raw) - Int128(first.event.began.raw),
      elapsed >= 1_000_000
    else {
      return .notTested(
        reason: timeline.lacking ?? "saw no two writes a millisecond apart with their records")
    }
    let moved = Int128(new.epochNanoseconds) - Int128(old.epochNanoseconds)
    let offsets = timeline.realtimeSpans
    let realtime = offsets.first.flatMap { first in
      offsets.last.map { $0.last.offset.lower - first.first.offset.lower }
    }
    return .observed(
      value:
        "the epoch moved by \(nanoseconds(moved)) in \(short(elapsed)), CLOCK_REALTIME by about "
        + "\(realtime.map(nanoseconds) ?? "?") against CLOCK_MONOTONIC_RAW")
  }
}

extension Event {
  /// Whether after this event the record that `write` left need not be there any more.
  fileprivate func endsWallRecord(_ write: WallWrite) -> Bool {
    switch action {
    case .vmCreated, .filled, .poked: true
    case .wroteMSR(let msr, _, _): MSR.isWallClock(msr)
    case .hostWroteMSR(_, let msr, _): MSR.isWallClock(msr)
    default: false
    }
  }
}

/// What a later look shows in the place of a record.
private func describeWall(_ bytes: [UInt8], _ write: WallWrite) -> String {
  guard let place = write.place, place.upperBound <= bytes.count,
    let record = WallClock(bytes: bytes[place]), record != write.record
  else { return "other bytes around it" }
  return describe(record)
}

/// By how much the epoch moved from one write to the next.
private struct WallJump {
  var moved: Int128
  var allowed: Interval
  var events: [Event]
}

extension Timeline {
  /// Writes one after the other on one clock, with the master clock, between two readings of CLOCK_REALTIME that have
  /// further ones before and after them.
  fileprivate var wallJumps: [WallJump] {
    let spans = realtimeSpans
    guard spans.count >= 3 else { return [] }
    let written = wallWrites.filter { $0.look != nil }
    var found: [WallJump] = []
    var at = 1
    for (earlier, later) in zip(written, written.dropFirst()) {
      while at < spans.count - 2, spans[at].last.index < earlier.index { at += 1 }
      let slews = spans[(at - 1)...(at + 1)].compactMap(\.slew)
      guard spans[at].first.index < earlier.index, later.index < spans[at].last.index,
        slews.count == 3, let slew = slews.max(), let old = earlier.record, let new = later.record,
        earlier.epoch == later.epoch, isOnMasterClock(from: earlier, to: later)
      else { continue }
      let elapsed = earlier.event.elapsed(to: later.event).upper
      let slack = share(slew + rateBound, of: elapsed) + rounding
      found.append(
        WallJump(
          moved: Int128(new.epochNanoseconds) - Int128(old.epochNanoseconds),
          allowed: Interval(-slack, slack), events: [earlier.event, later.event]))
    }
    return found
  }

  private func isOnMasterClock(from earlier: WallWrite, to later: WallWrite) -> Bool {
    guard let before = observations.last(where: { $0.index < earlier.index }),
      let after = observations.first(where: { $0.index > later.index })
    else { return false }
    return before.epoch == earlier.epoch && after.epoch == earlier.epoch && before.isStable
      && after.isStable && !mayHaveNewPair(from: before.event, to: after.event)
  }
}
