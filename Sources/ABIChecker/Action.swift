public import PVClock

/// What is wrong with a request that has to fail.
public enum Misuse: String, Hashable, Sendable, Codable, CaseIterable {
  case noMemory = "its argument lies in no memory of the process"
  case unknownAttribute = "the attribute does not exist"
}

/// How the host maps memory of a guest.
public enum HostAccess: String, Hashable, Sendable, Codable, CaseIterable {
  case none, read, write
}

/// Everything a scenario can record. Indirect, so that an event is small: the state after each event holds several.
public indirect enum Action: Hashable, Sendable, Codable {
  // The host, to the machine.
  case vmCreated
  case vcpuCreated(vcpu: Int)
  /// EAX of CPUID leaf 0x40000001 as the guest will see it.
  case featuresSet(vcpu: Int, features: Hex)
  case booted(vcpu: Int, guest: String, mode: CPUMode)
  /// The vCPU was reset: what INIT does, or what user space does when it unplugs a vCPU and plugs it again.
  case replugged(vcpu: Int, how: Reset)
  /// The machine's state was taken along; the machine made next goes on with it.
  case saved
  case filled(address: Hex, count: Int, byte: Hex)
  case poked(address: Hex, value: Hex)
  /// The vCPU's CPUID was set without KVM's leaves 0x40000000 and 0x40000001.
  case cpuidWithoutKVM(vcpu: Int)
  /// KVM_CAP_ENFORCE_PV_FEATURE_CPUID was enabled on the vCPU: before its CPUID was set, or after.
  case featuresEnforced(vcpu: Int)
  /// KVM_X86_SET_MSR_FILTER: these MSRs are denied to the guest from here on, and no others.
  case msrsDenied(msrs: [Hex])
  /// The vCPU is in KVM's own HLT, until it acts again.
  case halted(vcpu: Int)
  /// The vCPU's thread may run on one CPU of the host only.
  case moved(vcpu: Int, cpu: Int)

  // What the host asked KVM, and its answer.
  case msrIndexList(indices: [Hex])
  case supportedCPUID(function: Hex, eax: Hex, ebx: Hex, ecx: Hex, edx: Hex)
  case capability(name: String, value: Int32)
  case tscKHz(vcpu: Int, kHz: UInt32)
  case tscOffset(vcpu: Int, cycles: UInt64)
  case getClock(ClockRecord)
  case setClock(ClockRecord)
  case hostWroteMSR(vcpu: Int, msr: Hex, value: Hex)
  case hostReadMSR(vcpu: Int, msr: Hex, value: Hex)
  /// KVM_SET_MSRS did not take the value.
  case hostMSRRefused(vcpu: Int, msr: Hex, value: Hex)
  /// KVM_GET_MSRS did not give a value.
  case hostMSRReadRefused(vcpu: Int, msr: Hex)
  /// What a request returned, by its name, that is documented to return 0 and did not fail.
  case returned(request: String, result: Int32)
  /// What a request answered that has to fail, and why it has to; `error` is nil where it succeeded.
  case refused(request: String, because: Misuse, error: Errno?)
  /// A request failed because KVM has killed the VM: EIO from every request of it from then on.
  case killed(request: String)
  /// `KVM_VCPU_TSC_OFFSET` was set; a `tscOffset` after it says what reads back.
  case setTSCOffset(vcpu: Int, cycles: UInt64)
  /// `KVM_KVMCLOCK_CTRL`, which tells the guest that it was stopped; `errno` is 0 where KVM accepted it.
  case toldStopped(vcpu: Int, errno: Errno)
  /// `KVM_SET_CLOCK` failed; the clock is what it was.
  case setClockRefused(ClockRecord, error: Errno)
  case clockCalls(ClockCalls)
  /// One of the host's own clocks, by its name: "CLOCK_REALTIME".
  case hostClock(name: String, nanoseconds: UInt64)
  /// `KVM_SET_TSC_KHZ` of a vCPU, or of the whole VM if nil, and what KVM said if it refused.
  case setTSCKHz(vcpu: Int?, kHz: UInt32, error: Errno?)
  /// `KVM_XEN_VCPU_SET_ATTR`: the vCPU has Xen's vcpu_time_info, a clock record, at this address.
  case xenTimeSet(vcpu: Int, address: Hex)
  /// `KVM_XEN_VCPU_SET_ATTR`: the vCPU has Xen's vcpu_info at this address, and in it a clock record.
  case xenInfoSet(vcpu: Int, address: Hex)
  /// `KVM_XEN_HVM_SET_ATTR`: the page at this address is Xen's shared_info, and in it is a wall clock.
  case xenSharedInfoSet(address: Hex, is64Bit: Bool)
  /// `KVM_XEN_HVM_CONFIG`: whether the VM's Xen clock records leave out PVCLOCK_TSC_STABLE_BIT.
  case xenUnstableSet(Bool)

  // What the host saw in guest memory while the vCPUs were out of the guest.
  case memory(address: Hex, bytes: HexBytes)
  case page(vcpu: Int, address: Hex, page: ClockPage)
  /// The host copied the whole of guest memory, which is so many bytes from address 0.
  case memoryCopied(count: Int)
  /// Guest memory compared with that copy: every run of bytes that differs, but for those in `except`, which the CPU
  /// and the guest's own code write.
  case memoryChanged(runs: [MemoryRange], except: [MemoryRange])

  // The guest; the actor is the vCPU.
  /// The vCPU went into the guest and came back, nothing more: KVM serves its pending requests.
  case entered
  case wroteMSR(msr: Hex, value: Hex, fault: Fault?)
  case readMSR(msr: Hex, value: Hex, fault: Fault?)
  /// `settled` is false where the version stayed odd until the guest gave up.
  case read(address: Hex, ring: Int, reading: Reading, settled: Bool)
  case looped(guest: String, result: LoopResult)
  /// The guest made the hypercall KVM_HC_CLOCK_PAIRING for a clock; what it returned, and what the 64 bytes at the address
  /// hold then, which were 0xa5 before.
  case paired(address: Hex, clock: UInt32, result: Int64, bytes: HexBytes)
  /// The guest is its own hypervisor (L1) from here on, and runs as its own guest (L2), to which it gave this TSC offset: what
  /// else it does is L2's, until `leftL2`.
  case ranL2(tscOffset: Hex)
  case leftL2
  /// What `read` is, by L2 and so at L2's TSC.
  case readInL2(address: Hex, reading: Reading, settled: Bool)
  /// The guest left in a way that is not its doorbell.
  case stopped(exit: String)

  // The host, to itself.
  /// A setting of the host took this value: "clocksource" by name, "frequency" in parts per million, "suspend" with
  /// the test level that it went to; `error` is the name of the errno where it was refused.
  case hostChanged(what: String, value: String, error: Errno?)

  // Memory: which of the host's memories stands where, and what was written in them. Memory 0 is the machine's own.
  /// A memory came into a slot, or the flags of its slot changed: 1 logs dirty pages, 2 is read-only.
  case slotSet(slot: Int, address: Hex, memory: Int, size: Hex, flags: Hex)
  case slotDeleted(slot: Int)
  /// What the host lets itself, and so KVM, do with a memory at the address that its slots name.
  case protected(memory: Int, access: HostAccess)
  /// The address of one memory shows another one's pages from now on.
  case remapped(memory: Int, shows: Int)
  /// All pages of a memory were taken away: whoever touches one, KVM too, waits until it is supplied.
  case pagesMissing(memory: Int)
  /// Somebody waited for a page of a memory, by its number, and got it with what it held before: between the two moments.
  case pageSupplied(memory: Int, page: Int)
  /// The host compared all memories with what they held when it did so last, but for the pages that guests write as
  /// they run: page tables, system pages, mailboxes.
  case compared(changes: [MemoryChange])
  /// The pages, by number, that `KVM_GET_DIRTY_LOG` named; it clears the log.
  case dirtyLog(slot: Int, pages: [Int])
  /// The same where the log keeps its pages, on a VM with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; then `KVM_CLEAR_DIRTY_LOG` cleared
  /// these.
  case dirtyLogCleared(slot: Int, pages: [Int])
  /// The pages that the vCPUs' dirty rings named, taken from there, and the dirty log where there is one beside them; then
  /// `KVM_RESET_DIRTY_RINGS`.
  case dirtyRings(pages: [NamedPage])
  /// A loop that kept what it saw of each version of one record, its own vCPU's or that of `owner`.
  case watched(guest: String, owner: Int, address: Hex, result: WatchResult)
  /// A loop that read a wall clock record while it was written again and again.
  case watchedWallClock(address: Hex, result: WallWatchResult)
  /// A vCPU's part in a race, from `owner`'s record; the parts of one race have its number, from 1.
  case raced(race: Int, owner: Int, result: RaceResult)
  /// The guest wrote an MSR over and over; the record may be another vCPU's as well.
  case stormed(msr: Hex, writes: UInt64, versions: UInt64)
  /// What so many complete readings cost in TSC cycles, and what RDTSC and the loads alone did.
  case measured(reads: UInt64, cycles: UInt64, bareCycles: UInt64)

  // A VMM under test, and its guest.
  /// The VMM was asked for something, until it said that it was done. `other` is the machine that is migrated to, or the
  /// number of the saved state; `failure` is there where it was not done.
  case vmm(verb: VMMVerb, other: Int?, failure: VMMFailure?)
  /// What a vCPU saw of its record since it was asked last, and its answer, between the question and the answer's arrival.
  case sampled(address: Hex, result: SampleResult)
  /// What the clock does over a pause, or from a save to the restore, by the word of whoever tests the VMM.
  case declared(over: VMMVerb, clock: ClockPolicy)
  /// A guest's WRMSR of a wall clock MSR, and the record that it found then.
  case readWallClock(version: UInt32, seconds: UInt32, nanoseconds: UInt32)

  // Neither.
  /// Nothing at all: a bracket around nothing ties the TSC to CLOCK_MONOTONIC_RAW.
  case tick
  /// Something this host lacks, and how that was found out.
  case lacking(what: String, evidence: String)
  /// The scenario could not go on.
  case failed(reason: String)
  /// The host was suspended, or changed its clocksource, while the scenario ran. Kvmclock counts the time of a
  /// suspension and CLOCK_MONOTONIC_RAW does not; a clocksource takes the master clock away or brings it.
  case disturbed(how: String)
}
