internal import PVClock

// Section H of the catalogue: the wall clock MSRs, the record that they write.

extension Rule {
  static let wallClock: [Rule] = [
    .wallValue, .wallValueExact, .wallVersion, .wallSize12, .wallAnyAddress, .wallUnaligned,
    .wallOneshot,
    .wallRewriteStable, .wallFollowsSetclock, .wallDrift, .wallReadback, .wallGlobal, .wallZeroNop,
    .wallUnbackedNoFault, .wallHostset,
  ]

  static let wallValue = Rule(
    "WALL-VALUE",
    "A write of a wall clock MSR leaves CLOCK_REALTIME less kvmclock, both at the write, in the record: sec whole seconds "
      + "and nsec, below 10^9; with the master clock and without.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW",
    method:
      "CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW, before and after the write; kvmclock from the "
      + "guest's own record, read in the same entry; through both MSRs, on two vCPUs.",
    scenarios: [.wallClock],
    faults: [
      "kvm_write_wall_clock() writes the current time: an epoch too high by the VM's age",
      "kvmclock_offset left out: an epoch too low by the host's age", "nsec of 10^9 and more",
    ]
  ) { timeline in
    var findings = Findings()
    var msrs: Set<Hex> = []
    var stable = 0
    let spans = timeline.realtimeSpans
    for write in timeline.wallWrites {
      guard let record = write.record, let look = write.look,
        let epoch = timeline.epoch(of: write, spans), isExpressible(epoch.allowed)
      else { continue }
      if record.nanoseconds >= 1_000_000_000 {
        findings.expect(
          false, at: [write.event, look.event], "nsec below 10^9", seen: describe(record))
      }
      let before = findings.observed
      findings.expect(
        Int128(record.epochNanoseconds), in: epoch.allowed, limit: Timeline.widestUseful,
        at: epoch.events + [look.event],
        "sec * 10^9 + nsec at \(Hex(write.address))",
        why: "CLOCK_REALTIME at the write less kvmclock at the write")
      guard findings.observed > before else { continue }
      msrs.insert(write.msr)
      if epoch.isStable { stable += 1 }
    }
    guard msrs.count == 2 || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, "records written by both MSRs", in: timeline)
    }
    return findings.outcome(
      atLeast: 8, "records, \(stable) of them with the master clock", in: timeline)
  }

  static let wallVersion = Rule(
    "WALL-VERSION",
    "A write takes the record's version from an even value on by 2, from an odd one by 3, modulo 2^32.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW, field version; arch/x86/kvm/x86.c, "
      + "kvm_write_wall_clock()",
    method:
      "The guest writes a version of its own into the record (0, odd, 0xfffffffe, 0xffffffff), then the MSR.",
    scenarios: [.wallClock],
    faults: [
      "kvm_write_wall_clock() does not raise the version after the data: it stays odd",
      "the version is not read: it starts at 0 again",
    ]
  ) { timeline in
    var findings = Findings()
    var hasOdd = false
    var hasWrap = false
    for write in timeline.wallWrites {
      guard let (event, from) = write.before, let look = write.look, let record = write.record
      else { continue }
      let next = VersionProtocol.updated(from)
      hasOdd = hasOdd || from % 2 == 1
      hasWrap = hasWrap || next < from
      findings.expect(
        record.version == next, at: [event, write.event, look.event],
        "version \(next) after \(from)", seen: "version \(record.version)")
    }
    guard hasOdd && hasWrap || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "writes over odd versions and over ones that wrap", in: timeline)
    }
    return findings.outcome(atLeast: 6, "writes over a version that was known", in: timeline)
  }

  static let wallSize12 = Rule(
    "WALL-SIZE-12",
    "A write of a wall clock MSR writes exactly 12 bytes.",
    source: "arch/x86/include/asm/pvclock-abi.h, struct pvclock_wall_clock",
    method: "Fill memory with 0xa5, write the MSR, look at 64 bytes on both sides of the record.",
    scenarios: [.wallClock],
    faults: ["a fourth word behind the record, as Xen has", "a byte before it"]
  ) { timeline in
    var findings = Findings()
    for write in timeline.wallWrites {
      guard let seen = guarded(write) else { continue }
      findings.expect(
        seen.outside == nil && seen.isWritten, at: [write.event, seen.look],
        "the 12 bytes from \(Hex(write.address)) written and 0xa5 around them",
        seen: seen.outside ?? "a record of 0xa5")
    }
    return findings.outcome(
      atLeast: 8, "records with 64 guard bytes on both sides", in: timeline)
  }

  static let wallAnyAddress = Rule(
    "WALL-ANY-ADDRESS",
    "The record may be at any 4-byte aligned address in guest RAM, also across a page boundary.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW (\"4-byte alignment\")",
    method:
      "Fill memory with 0xa5 and write the MSR: addresses that 8 divides and ones that it does not, and the last 4 and the "
      + "last 8 bytes of a page.",
    scenarios: [.wallClock],
    faults: ["a record across two pages is not written", "the address is rounded down to 8 bytes"]
  ) { timeline in
    var findings = Findings()
    var crossings: Set<UInt64> = []
    for write in timeline.wallWrites where write.address % 4 == 0 {
      guard let seen = guarded(write) else { continue }
      if write.address % 4096 > 4096 - 12 { crossings.insert(write.address % 4096) }
      findings.expect(
        seen.isWritten, at: [write.event, seen.look],
        "a record with an even version at \(Hex(write.address))",
        seen: seen.outside ?? "nothing written")
    }
    guard crossings.count == 2 || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, "both ways across a page boundary", in: timeline)
    }
    return findings.outcome(atLeast: 8, "records at aligned addresses", in: timeline)
  }

  static let wallUnaligned = Rule(
    "WALL-UNALIGNED",
    "The MSR has no enable bit, and what happens at an address that is not 4-byte aligned is left open; KVM takes every bit "
      + "for address.",
    source: "arch/x86/kvm/x86.c, kvm_write_wall_clock()",
    method: "Fill memory with 0xa5 and write addresses with bits 0 and 1 set.",
    scenarios: [.wallClock], isObservation: true
  ) { timeline in
    let looks = timeline.wallWrites.filter { $0.address % 4 != 0 }.compactMap(guarded)
    guard looks.count >= 6 else {
      return .notTested(
        reason: timeline.lacking ?? "saw \(looks.count) writes of unaligned addresses, needs 6")
    }
    let exact = looks.filter { $0.isWritten && $0.outside == nil }.count
    return .observed(value: "\(exact) of \(looks.count) records written at just that address")
  }

  static let wallHostset = Rule(
    "WALL-HOSTSET",
    "KVM_SET_MSRS of a wall clock MSR writes the record at once, as the guest's own write does; no vCPU has to enter.",
    source: "arch/x86/kvm/x86.c, kvm_set_msr_common()",
    method:
      "Fill memory with 0xa5, set the MSR from the host, look; before any vCPU's first entry and later.",
    scenarios: [.wallClock],
    faults: [
      "host_initiated writes only keep the value", "the record is written at the next entry",
    ]
  ) { timeline in
    var findings = Findings()
    for write in timeline.wallWrites where write.isByHost && write.address % 4 == 0 {
      guard let seen = guarded(write),
        !timeline.wasAnyVCPUEntered(between: write.event, and: seen.look)
      else { continue }
      findings.expect(
        seen.isWritten, at: [write.event, seen.look],
        "a record with an even version at \(Hex(write.address)) before any vCPU enters",
        seen: seen.outside ?? "nothing written")
    }
    return findings.outcome(atLeast: 2, "records written by the host's requests", in: timeline)
  }
}

/// What is at a record where 0xa5 was, with 64 bytes of it on both sides.
private func guarded(_ write: WallWrite) -> (look: Event, isWritten: Bool, outside: String?)? {
  guard let (event, start, bytes) = write.look, let place = write.place, let filled = write.filled,
    let record = write.record, place.lowerBound >= 64, bytes.count - place.upperBound >= 64,
    filled.lower <= Int128(start), Int128(start) + Int128(bytes.count) <= filled.upper
  else { return nil }
  let outside = bytes.indices.first { !place.contains($0) && bytes[$0] != 0xa5 }
  let isWritten =
    record.version % 2 == 0 && record.version != 0xa5a5_a5a5 && record.seconds != 0xa5a5_a5a5
    && record.nanoseconds != 0xa5a5_a5a5
  return (
    event, isWritten,
    outside.map { "byte at \(Hex(start &+ UInt64($0))) is \(Hex(UInt64(bytes[$0])))" }
  )
}

/// Whether sec, which has 32 bits, can say all of it.
func isExpressible(_ epoch: Interval) -> Bool {
  epoch.lower >= 0 && epoch.upper < 1_000_000_000 << 32
}

func describe(_ record: WallClock) -> String {
  "version \(record.version), sec \(record.seconds), nsec \(record.nanoseconds)"
}

extension Timeline {
  func wasAnyVCPUEntered(between earlier: Event, and later: Event) -> Bool {
    history.events.contains {
      $0.actor != .host && $0.number > earlier.number && $0.number < later.number
    }
  }
}
