internal import PVClock

// Section B of the catalogue: where a record may lie, who may register it, and what a write leaves alone.

extension Rule {
  static let registrationDetails: [Rule] = [
    .hostsetRegisters, .systimeAlign4, .systimeUnbackedNoFault, .scribbleRepaired,
    .systimeRewriteMasterExact,
  ]

  static let hostsetRegisters = Rule(
    "HOSTSET-REGISTERS",
    "KVM_SET_MSRS of 0x12 or 0x4b564d01 with bit 0 set registers a record as the guest's own write does: it is valid "
      + "after the vCPU's next entry.",
    source: "Documentation/virt/kvm/x86/msr.rst; arch/x86/kvm/x86.c, kvm_set_msr_common()",
    method:
      "Fill a page with 0xa5; the host writes each MSR on both vCPUs; the vCPU enters; look at the record.",
    scenarios: [.hostRegisters],
    faults: [
      "kvm_write_system_time() returns early for the host's writes",
      "the record stays as it was over the entry",
    ]
  ) { timeline in
    var findings = Findings()
    var waiting: [Int: (write: Event, msr: Hex, address: Hex, entered: Bool)] = [:]
    var served: Set<Hex> = []
    for event in timeline.history.events {
      if case .vcpu(let vcpu) = event.actor { waiting[vcpu]?.entered = true }
      switch (event.action, event.actor) {
      case (.vmCreated, _), (.filled, _): waiting = [:]
      case (.wroteMSR, .vcpu(let vcpu)), (.replugged(let vcpu, _), _): waiting[vcpu] = nil
      case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
        let address = Hex(value.value & ~1)
        waiting[vcpu] =
          value.value & 1 == 1 && timeline.wasFilled(address, before: event)
          ? (event, msr, address, false) : nil
      case (.page(let vcpu, let address, let page), _):
        guard let (write, msr, wanted, entered) = waiting[vcpu], entered, wanted == address
        else { continue }
        waiting[vcpu] = nil
        served.insert(msr)
        findings.expect(
          page.isServed, at: [write, event],
          "a record of vcpu\(vcpu) at \(address), which the host registered through \(msr)",
          seen: describe(page))
      default: continue
      }
    }
    return findings.outcome(
      atLeast: served.count == 2 ? 4 : .max, "registrations by the host through both MSRs",
      in: timeline)
  }

  static let systimeAlign4 = Rule(
    "SYSTIME-ALIGN4",
    "A record may lie at every 4-byte aligned address of a page that leaves 32 bytes of it; exactly these bytes are written.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (\"4-byte aligned physical address\"); Linux "
      + "c300aa64ddf5 (3.9) refused some",
    method:
      "Each of the 1017 offsets, far from the one before: fill with 0xa5, write the MSR, look at the record and 64 bytes "
      + "on both sides.",
    scenarios: [.align4],
    faults: [
      "the address rounded down to 64 bytes in kvm_write_system_time()",
      "registrations that are not aligned to 32 bytes dropped, as in c300aa64ddf5",
    ]
  ) { timeline in
    var findings = Findings()
    var offsets: Set<UInt64> = []
    var write: (event: Event, address: UInt64, before: UInt64)?
    var live: UInt64 = 0
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated, .filled: write = nil
      case .wroteMSR(let msr, let value, let fault) where MSR.isSystemTime(msr):
        write = (event, value.value & ~1, live)
        live = value.value & ~1
        findings.expect(
          fault == nil, at: [event], "no fault from a write of \(value) to \(msr)",
          seen: "exception vector \(fault?.vector ?? 0)")
      case .memory(let start, let hex):
        // Until the write, an entry may still update the record before it.
        guard let (wrote, address, before) = write, address >= start.value,
          address - start.value == 64, hex.bytes.count == 160, address % 4 == 0,
          address % 4096 <= 4096 - 32, abs(difference(address, before)) >= 96,
          timeline.wasFilled(start, count: 160, before: wrote),
          let page = ClockPage(bytes: hex.bytes[64..<96])
        else { continue }
        write = nil
        offsets.insert(address % 4096)
        let stray = hex.bytes.indices.first {
          !(64..<96).contains($0) && hex.bytes[$0] != 0xa5
        }
        findings.expect(
          page.isServed && stray == nil, at: [wrote, event],
          "a record at \(Hex(address)), offset \(Hex(address % 4096)) of its page, and 0xa5 around it",
          seen: describe(page)
            + (stray.map { "; byte at \(Hex(start.value &+ UInt64($0))) is not 0xa5" } ?? ""))
      default: continue
      }
    }
    let isComplete = offsets.count == 1017
    return findings.outcome(
      atLeast: isComplete ? 1017 : .max, "writes and records at 1017 offsets", in: timeline)
  }

  static let systimeUnbackedNoFault = Rule(
    "SYSTIME-UNBACKED-NOFAULT",
    "A registration outside guest memory raises no fault and causes no exit; it reads back, and nothing is written "
      + "anywhere.",
    source: "arch/x86/kvm/x86.c, kvm_write_system_time()",
    method:
      "From a live record and from none, register addresses beyond memory and at the ends of the address space; set the "
      + "clock, enter; compare all of guest memory, where only another vCPU's record may change.",
    scenarios: [.unbacked],
    faults: [
      "a #GP from kvm_set_msr_common() for an address without a memory slot",
      "the old record updated on after the guest had given it up",
      "a record written at address 0, or at the last address that was cached",
    ]
  ) { timeline in
    var pass = UnbackedPass()
    for event in timeline.history.events { pass.take(event) }
    return pass.findings.outcome(
      atLeast: pass.compared >= 4 ? 12 : .max,
      pass.compared >= 4
        ? "writes, readings back and comparisons of all memory"
        : "comparisons of memory after a write of an address outside of it, while another record changed",
      in: timeline)
  }

  static let systimeRewriteMasterExact = Rule(
    "SYSTIME-REWRITE-MASTER-EXACT",
    "In master-clock mode a write of the system-time MSR takes no new snapshot: at one and the same TSC the new record gives "
      + "the time that the first one gave, to 1 ns, by the same multiplier and shift.",
    source:
      "arch/x86/kvm/x86.c, kvm_write_system_time() asks for KVM_REQ_GLOBAL_CLOCK_UPDATE, not for a new master clock",
    method:
      "600 writes on two vCPUs, of the same address and now and then another, and a look at the record after each.",
    scenarios: [.rewriteExact],
    faults: [
      "KVM_REQ_MASTERCLOCK_UPDATE raised at every write in kvm_write_system_time()",
      "1 ns lost at every write",
    ]
  ) { timeline in
    var findings = Findings()
    var newest = NewestPair()
    var first: [Int: (event: Event, page: ClockPage)] = [:]
    var write: [Int: Event] = [:]
    for event in timeline.history.events {
      let isNew = newest.take(event)
      switch (event.action, event.actor) {
      case _ where isNew: (first, write) = ([:], [:])
      case (.vmCreated, _), (.setClock, _), (.vcpuCreated, _): (first, write) = ([:], [:])
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        write[vcpu] = value.value & 1 == 1 ? event : nil
      case (.page(let vcpu, _, let page), _):
        guard newest.isHeld(by: vcpu) else { continue }
        guard page.flags.contains(.tscStable) else {
          findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
          first[vcpu] = nil
          continue
        }
        guard let (look, old) = first[vcpu] else {
          first[vcpu] = (event, page)
          continue
        }
        guard let write = write.removeValue(forKey: vcpu) else { continue }
        let step = page.step(from: old)
        findings.expect(
          page.scale == old.scale && abs(step) <= 1, at: [look, write, event],
          "vcpu\(vcpu)'s record to give the time that it gave before: \(describe(old))",
          seen: "\(describe(page)): a step of \(nanoseconds(step))")
      default: continue
      }
    }
    return findings.outcome(atLeast: 500, "writes that moved no record's time", in: timeline)
  }

  static let scribbleRepaired = Rule(
    "SCRIBBLE-REPAIRED",
    "An update writes every field of a record that the guest has overwritten. Of the guest's bytes it takes two things: "
      + "the version, which it moves on, and bit 1 (GUEST_STOPPED) of the flags, which it keeps.",
    source: "arch/x86/kvm/x86.c, kvm_setup_guest_pvclock()",
    method:
      "The guest overwrites all 32 bytes with random ones, with chosen flags, and writes the MSR; look at the record.",
    scenarios: [.scribble],
    faults: [
      "all of the guest's flags kept in kvm_setup_guest_pvclock()",
      "PVCLOCK_GUEST_STOPPED not carried over an update, as before 51d59c6b42 (3.7)",
      "an update that leaves a field as it was",
    ]
  ) { timeline in
    var pass = ScribblePass()
    for event in timeline.history.events { pass.take(event) }
    for (before, write, after) in timeline.readings(around: { pass.writes[$0.number] }) {
      pass.findings.expect(
        difference(after.value, before.value),
        in: timeline.allowedAdvance(from: before, to: after), limit: Timeline.widestUseful,
        at: [before.event, write, after.event],
        "vcpu\(before.vcpu ?? 0)'s clock to go on from \(nanoseconds(Int128(before.value))) by an amount",
        why: "the time that CLOCK_MONOTONIC_RAW counted; what the guest wrote there is gone")
    }
    let isComplete = pass.kept.count == 2
    return pass.findings.outcome(
      atLeast: isComplete ? 8 : .max,
      isComplete
        ? "records repaired, and readings" : "records repaired, bit 1 set by the guest and clear",
      in: timeline)
  }
}

extension ClockPage {
  /// How much later it is by this record than by an older one, at the later of the two's TSC values.
  fileprivate func step(from old: ClockPage) -> Int128 {
    let tsc = difference(tscTimestamp, old.tscTimestamp) >= 0 ? tscTimestamp : old.tscTimestamp
    return difference(systemTime(atTSC: tsc), old.systemTime(atTSC: tsc))
  }

  /// The record as eight words of memory.
  fileprivate init?(scribbled words: [Int: UInt32]) {
    guard words.count == 8 else { return nil }
    self.init(words: (0..<8).map { words[$0] ?? 0 })
  }
}

/// The forward pass behind SYSTIME-UNBACKED-NOFAULT.
private struct UnbackedPass {
  var findings = Findings()
  /// Comparisons with proof that records were updated meanwhile.
  private(set) var compared = 0
  private var copy: Event?
  /// Where memory ends.
  private var size: Int?
  /// Where each vCPU's record is.
  private var current: [Int: UInt64] = [:]
  /// Who has registered an address outside of memory since the copy, by which write.
  private var outside: [Int: (event: Event, value: Hex)] = [:]

  mutating func take(_ event: Event) {
    switch (event.action, event.actor) {
    case (.vmCreated, _): (copy, size, current, outside) = (nil, nil, [:], [:])
    case (.memoryCopied(let count), _): (copy, size) = (event, count)
    case (.wroteMSR(let msr, let value, let fault), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      wrote(value, msr, fault, vcpu, event)
    case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
      wrote(value, msr, nil, vcpu, event)
    case (.stopped(let exit), .vcpu(let vcpu)):
      guard size != nil else { return }
      findings.expect(
        false, at: [event], "no exit from vcpu\(vcpu)'s registration outside of memory",
        seen: exit)
    case (.readMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      guard let (write, wanted) = outside[vcpu] else { return }
      findings.expect(
        value == wanted, at: [write, event], "\(wanted) read back from \(msr) on vcpu\(vcpu)",
        seen: "\(value)")
    case (.filled, _), (.poked, _): copy = nil
    case (.memoryChanged(let runs, let except), _): compare(runs, except, event)
    default: return
    }
  }

  private mutating func wrote(
    _ value: Hex, _ msr: Hex, _ fault: Fault?, _ vcpu: Int, _ event: Event
  ) {
    let isOutside =
      value.value & 1 == 1 && size.map { Int128(value.value) >= Int128($0) } ?? false
    if isOutside {
      findings.expect(
        fault == nil, at: [event],
        "no fault from a write of \(value) to \(msr), which is outside of memory",
        seen: "exception vector \(fault?.vector ?? 0)")
    }
    guard fault == nil else { return }
    // A record that comes or goes between the copy and the comparison may have changed in either.
    if !isOutside || current[vcpu] != nil { copy = nil }
    current[vcpu] = isOutside || value.value & 1 == 0 ? nil : value.value & ~1
    outside[vcpu] = isOutside ? (event, value) : nil
  }

  private mutating func compare(_ runs: [MemoryRange], _ except: [MemoryRange], _ event: Event) {
    guard let copied = copy, !outside.isEmpty else { return }
    let live = current.values.map { MemoryRange(address: $0, count: 32) }
    let unexpected = runs.first { run in !(live + except).contains { $0.contains(run) } }
    let isAlive = runs.contains { run in live.contains { $0.contains(run) } }
    guard isAlive || unexpected != nil else {
      return findings.lacks(
        "no other vCPU's record changed, so nothing shows that updates were made")
    }
    compared += 1
    findings.expect(
      unexpected == nil,
      at: ([copied, event] + outside.values.map(\.event)).sorted { $0.number < $1.number },
      "nothing but records of vCPUs that registered memory to have changed",
      seen: unexpected.map { "\($0.count) bytes changed from \($0.address)" } ?? "")
  }
}

extension MemoryRange {
  fileprivate func contains(_ other: MemoryRange) -> Bool {
    let start = Int128(address.value)
    let begin = Int128(other.address.value)
    return start <= begin && begin + Int128(other.count) <= start + Int128(count)
  }
}

/// The forward pass behind SCRIBBLE-REPAIRED.
private struct ScribblePass {
  var findings = Findings()
  /// The values of flags bit 1 that were seen to be kept.
  private(set) var kept: Set<Bool> = []
  /// The MSR writes after which a record had to be whole again, and their vCPUs.
  private(set) var writes: [Int: Int] = [:]
  private var address: [Int: UInt64] = [:]
  /// The record as the host wrote it last.
  private var good: [Int: ClockPage] = [:]
  private var words: [Int: [Int: UInt32]] = [:]
  private var due: [Int: (write: Event, scribble: ClockPage)] = [:]

  mutating func take(_ event: Event) {
    switch (event.action, event.actor) {
    case (.vmCreated, _): (address, good, words, due) = ([:], [:], [:], [:])
    case (.poked(let at, let value), .vcpu(let vcpu)): poke(vcpu, at.value, value.value)
    case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      let scribble = ClockPage(scribbled: words.removeValue(forKey: vcpu) ?? [:])
      let isSame = address[vcpu] == value.value & ~1
      address[vcpu] = value.value & 1 == 1 ? value.value & ~1 : nil
      due[vcpu] = nil
      guard let scribble, isSame, address[vcpu] != nil else { return }
      due[vcpu] = (event, scribble)
      writes[event.number] = vcpu
    case (.read(let at, _, let reading, settled: true), .vcpu(let vcpu)):
      see(vcpu, at.value, reading.page, event)
    case (.page(let vcpu, let at, let page), _): see(vcpu, at.value, page, event)
    default: return
    }
  }

  private mutating func poke(_ vcpu: Int, _ at: UInt64, _ value: UInt64) {
    guard let start = address[vcpu], at >= start, at - start < 32, at % 4 == start % 4 else {
      return
    }
    words[vcpu, default: [:]][Int(at - start) / 4] = UInt32(truncatingIfNeeded: value)
  }

  private mutating func see(_ vcpu: Int, _ at: UInt64, _ page: ClockPage, _ event: Event) {
    guard address[vcpu] == at, words[vcpu] == nil else { return }
    if let (write, scribble) = due.removeValue(forKey: vcpu) {
      guard let old = good[vcpu] else { return }
      check(page, after: scribble, old, at: [write, event])
    }
    good[vcpu] = page
  }

  private mutating func check(
    _ page: ClockPage, after scribble: ClockPage, _ old: ClockPage, at events: [Event]
  ) {
    kept.insert(scribble.flags.contains(.guestStopped))
    let step = VersionProtocol.advance(from: scribble.version, to: page.version)
    let least: UInt32 = scribble.version % 2 == 0 ? 2 : 3
    let flags = page.flags.subtracting(.tscStable)
    findings.expect(
      step >= least && step < 1 << 31 && page.version % 2 == 0
        && flags == scribble.flags.intersection(.guestStopped) && page.scale == old.scale
        && page.pad0 == 0 && page.pad == 0 && page.tscTimestamp != scribble.tscTimestamp
        && page.systemTime != scribble.systemTime,
      at: events,
      "an even version at least \(least) after \(scribble.version), of the flags \(Hex(UInt64(scribble.flags.rawValue))) "
        + "bit 1 and no other, tsc_to_system_mul \(Hex(old.tscToSystemMultiplier)), tsc_shift \(old.tscShift), pads 0, and "
        + "a new tsc_timestamp and system_time",
      seen: describe(page))
  }
}
