internal import PVClock

// The wall clock MSRs, and the record that they write.

extension Rule {
  static let wallClock: [Rule] = [
    .wallValue, .wallValueExact, .wallVersion, .wallSize12, .wallAnyAddress, .wallUnaligned,
    .wallOneshot,
    .wallRewriteStable, .wallFollowsSetclock, .wallDrift, .wallReadback, .wallGlobal, .wallZeroNop,
    .wallUnbackedNoFault, .wallHostset, .wallNoTorn,
  ]

  static let wallValue = Rule(
    "WALL-VALUE",
    "A write of a wall clock MSR, the old one or the new one, leaves CLOCK_REALTIME less kvmclock, both at the write, in the "
      + "record: sec whole seconds and nsec, below 10^9.",
    sources: [.msr("MSR_KVM_WALL_CLOCK_NEW")],
    method:
      "CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW, before and after the write; kvmclock from the "
      + "guest's own record, read in the same entry; on two vCPUs, without the master clock and, if the host has one, with it.",
    scenarios: [.wallClock],
    coverage: [
      .observations(8, "records"),
      .each([Hex(MSR.wallClockOld).description, Hex(MSR.wallClock).description], "MSRs"),
      .different(2, "vCPUs that wrote"),
    ]
  ) { timeline, findings in
    var stable = 0
    let spans = timeline.realtimeSpans
    for write in timeline.wallWrites {
      guard let record = write.record, let look = write.look,
        let epoch = timeline.epoch(of: write.step, spans), isExpressible(epoch.allowed)
      else { continue }
      if record.nanoseconds >= 1_000_000_000 {
        findings.expect(
          false, at: [write.event, look.event], "nsec below 10^9", seen: describe(record))
      }
      let isCounted = findings.expect(
        Int128(record.epochNanoseconds), in: epoch.allowed, limit: Timeline.widestUseful,
        at: epoch.events + [look.event],
        "sec * 10^9 + nsec at \(Hex(write.address))",
        why: "CLOCK_REALTIME at the write less kvmclock at the write")
      guard isCounted else { continue }
      findings.cover(write.msr.description, of: "MSRs")
      findings.cover(vcpu: write.event.vcpu, of: "vCPUs that wrote")
      if epoch.isStable { stable += 1 }
    }
    findings.detail = "\(stable) of them with the master clock"
  }

  static let wallVersion = Rule(
    "WALL-VERSION",
    "A write takes the record's version from an even value on by 2, from an odd one by 3, modulo 2^32.",
    sources: [.x86("kvm_write_wall_clock()")],
    method:
      "The guest writes a version of its own into the record (0, odd, 0xfffffffe, 0xffffffff), then the MSR.",
    scenarios: [.wallClock],
    coverage: [
      .observations(6, "writes over a version that was known"),
      .each(["even", "odd", "wraps"], "versions before the write"),
    ]
  ) { timeline, findings in
    for write in timeline.wallWrites {
      guard let (event, from) = write.before, let look = write.look, let record = write.record
      else { continue }
      let next = VersionProtocol.updated(from)
      findings.cover(from % 2 == 1 ? "odd" : "even", of: "versions before the write")
      if next < from { findings.cover("wraps", of: "versions before the write") }
      findings.expect(
        record.version == next, at: [event, write.event, look.event],
        "version \(next) after \(from)", seen: "version \(record.version)")
    }
  }

  static let wallSize12 = Rule(
    "WALL-SIZE-12",
    "A write of a wall clock MSR writes exactly 12 bytes.",
    sources: [.document("arch/x86/include/asm/pvclock-abi.h, struct pvclock_wall_clock")],
    method: "Fill memory with 0xa5, write the MSR, read 64 bytes on both sides of the record.",
    scenarios: [.wallClock],
    coverage: [.observations(8, "records with 64 guard bytes on both sides")]
  ) { timeline, findings in
    for write in timeline.wallWrites {
      guard let seen = guarded(write) else { continue }
      findings.expect(
        seen.outside == nil && seen.isWritten, at: [write.event, seen.look],
        "the 12 bytes from \(Hex(write.address)) written and 0xa5 around them",
        seen: seen.outside ?? "a record of 0xa5")
    }
  }

  static let wallAnyAddress = Rule(
    "WALL-ANY-ADDRESS",
    "The record may be at any 4-byte aligned address in guest RAM, even across a page boundary; its version is even after "
      + "the write.",
    sources: [
      .msr(
        "MSR_KVM_WALL_CLOCK_NEW (\"4-byte alignment\"; an odd version says that an "
          + "update is in progress)")
    ],
    method:
      "Fill memory with 0xa5 and write the MSR: addresses that 8 divides and ones that it does not, and the last 4 and the "
      + "last 8 bytes of a page.",
    scenarios: [.wallClock],
    coverage: [
      .observations(8, "records at aligned addresses"),
      .each(["the last 4 bytes", "the last 8 bytes"], crossings),
    ]
  ) { timeline, findings in
    for write in timeline.wallWrites where write.address % 4 == 0 {
      guard let seen = guarded(write) else { continue }
      if write.address % 4096 > 4096 - 12 {
        findings.cover("the last \(4096 - write.address % 4096) bytes", of: crossings)
      }
      findings.expect(
        seen.isWritten, at: [write.event, seen.look],
        "a record with an even version at \(Hex(write.address))",
        seen: seen.outside ?? "nothing written")
    }
  }

  private static let crossings = "places before a page boundary where a record begins"

  static let wallUnaligned = Rule(
    "WALL-UNALIGNED",
    "The MSR has no enable bit, and the ABI leaves open the effect of an address that is not 4-byte aligned; KVM takes "
      + "every bit as part of the address.",
    sources: [.x86("kvm_write_wall_clock()")],
    method: "Fill memory with 0xa5 and write addresses with bits 0 and 1 set.",
    scenarios: [.wallClock],
    coverage: [.count(6, "writes of unaligned addresses")],
    isObservation: true
  ) { timeline, findings in
    let looks = timeline.wallWrites.filter { $0.address % 4 != 0 }.compactMap(guarded)
    findings.count("writes of unaligned addresses", by: UInt64(looks.count))
    guard looks.count >= 6 else { return }
    let exact = looks.filter { $0.isWritten && $0.outside == nil }.count
    findings.report("\(exact) of \(looks.count) records written at exactly that address")
  }

  static let wallHostset = Rule(
    "WALL-HOSTSET",
    "KVM_SET_MSRS of a wall clock MSR writes the record at once, as the guest's own write does; no vCPU has to enter.",
    sources: [.x86("kvm_set_msr_common()")],
    method:
      "Fill memory with 0xa5, set the MSR from the host, read the record; before any vCPU's first entry and later.",
    scenarios: [.wallClock],
    coverage: [.observations(2, "records written by the host's requests")]
  ) { timeline, findings in
    for write in timeline.wallWrites where write.isByHost && write.address % 4 == 0 {
      guard let seen = guarded(write),
        !timeline.machines[write.machine].hasEntry(between: write.event, and: seen.look)
      else { continue }
      findings.expect(
        seen.isWritten, at: [write.event, seen.look],
        "a record with an even version at \(Hex(write.address)) before any vCPU enters",
        seen: seen.outside ?? "nothing written")
    }
  }
}

/// A record that was written over 0xa5, with 64 bytes of that on both sides.
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

/// Whether sec, which has 32 bits, can hold it.
func isExpressible(_ epoch: Interval) -> Bool {
  epoch.lower >= 0 && epoch.upper < 1_000_000_000 << 32
}

func describe(_ record: WallClock) -> String {
  "version \(record.version), sec \(record.seconds), nsec \(record.nanoseconds)"
}

extension MachineRun {
  fileprivate func hasEntry(between earlier: Event, and later: Event) -> Bool {
    steps.contains {
      $0.isEntry && $0.event.number > earlier.number && $0.event.number < later.number
    }
  }
}
