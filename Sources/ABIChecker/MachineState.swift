internal import PVClock

/// The state of one vCPU as far as the history tells.
struct VCPUState: Sendable {
  enum CPUID: Hashable, Sendable {
    case unknown
    /// Without KVM's leaves.
    case withoutKVM
    /// EAX of leaf 0x40000001.
    case features(UInt64)
  }

  /// When KVM_CAP_ENFORCE_PV_FEATURE_CPUID was enabled: before the CPUID was set, or after.
  enum Enforcement: String, Sendable { case before, after }

  /// The last accepted write of the system-time MSR; nil if there was none since the vCPU was made or reset.
  var systemTime: SystemTimeWrite?
  /// The last reset of the vCPU, if no write of the system-time MSR followed it.
  var reset: (event: Event, how: Reset, hadRecord: Bool)?
  var isCreated = false
  /// Whether the vCPU was made after another vCPU of its machine had entered.
  var isLate = false
  /// The number of the last event in which the vCPU was in the guest; nil if it never was.
  var lastEntry: Int?
  /// The TSC offset that was read or set last, in cycles.
  var tscOffset: UInt64?
  /// Whether `tscOffset` was set by user space, and not read back since.
  var isTSCOffsetSet = false
  /// False after the TSC was moved, until the offset is read again.
  var isTSCOffsetCertain = true
  /// Whether the record holds the newest pair of the master clock for certain.
  var holdsNewestPair = false
  /// Whether the record may be from before the vCPU's TSC was moved.
  var isStale = false
  var cpuid = CPUID.unknown
  /// `KVM_GET_TSC_KHZ` as it was read last; nil where it was not read, and after a frequency was set.
  var tscKHz: UInt32?
  var isRetuned = false
  var enforcement: Enforcement?
  /// The TSC offset of L2, while the vCPU's guest is a hypervisor and L2 runs.
  var l2Offset: UInt64?

  /// The registered record's guest-physical address; nil without a record.
  var record: UInt64? { systemTime.flatMap { $0.record } }
}

/// A write of the system-time MSR that KVM accepted.
struct SystemTimeWrite: Sendable {
  let value: UInt64
  let msr: Hex
  let event: Event

  var isByHost: Bool { event.actor == .host }
  var isOldMSR: Bool { MSR.isOldSystemTime(msr) }
  /// The record's address; nil if bit 0 is clear.
  var record: UInt64? { value & 1 == 1 ? value & ~1 : nil }
}

/// The state of one machine after an event.
struct MachineState: Sendable {
  /// Counts the machines of the history.
  let number: Int
  /// `KVM_CREATE_VM`, if the history shows it.
  var creation: Event?
  /// When the machine was made, or when the history began.
  var began: Instant
  /// Counts, over all machines, the machines and the settings of their clocks.
  var epoch: Int
  /// Whether the frequency of its vCPUs' TSCs was set before they were made.
  var isRetuned = false
  /// The last accepted `KVM_SET_CLOCK`.
  var setting: (index: Int, event: Event, record: ClockRecord)?
  /// How often the clock was set.
  var settings = 0
  var vcpus = 0
  /// The writes that registered the records of now, by vCPU.
  var records: [Int: SystemTimeWrite] = [:]
  /// vCPUs with a record whose guest's last write leaves the master clock in place: vCPU 0 on the new MSR, others on either.
  var registered = 0
  var hasEntered = false
  /// The vCPUs whose guest is a hypervisor at the moment, and runs its own.
  var inL2: Set<Int> = []
  /// Whether the guest's last write on vCPU 0 went to the old MSR.
  var isBootVCPUOnOldMSR = false
  /// Whether the TSC of some vCPU was moved, so that the vCPUs' TSCs may differ.
  var mayBeUnmatched = false
  /// The last setting of a TSC offset, if after it no vCPU was made and no TSC was moved otherwise.
  var tscOffsetSetting: Event?
  /// Whether the setting before it was the same one.
  var isTSCOffsetSetTwice = false
  /// After a setting of a TSC offset, whether all vCPUs have the same, or nil where that is not clear. KVM compares each
  /// setting with the one before, so offsets count as equal if they were set to one value without another between.
  var areTSCOffsetsEqual: Bool?
  /// Whether a vCPU whose TSC the host moved has not entered since.
  var awaitsMovedVCPU = false
  /// Whether this event may have replaced the master clock's pair while the clock ran on.
  var mayHaveNewPair = false
  /// The MSRs that KVM_X86_SET_MSR_FILTER denies to the guest.
  var deniedMSRs: Set<Hex> = []
  /// The memory slots, if the history shows any.
  var memory = GuestMemory()
  /// The last accepted write of a wall clock MSR: one value for the whole machine.
  var wallClock: (value: Hex, event: Event)?

  var isWhollyRegistered: Bool { vcpus > 0 && registered == vcpus }
}

/// Why KVM can't write a piece of guest memory, as it stands in a sentence.
enum Obstacle: String, CaseIterable {
  case noSlot = "no slot"
  case noAccess = "memory that the host may not read"
  case readOnly = "memory that the host may not write"
}

/// Which of the host's memories stands where in the guest's address space.
struct GuestMemory: Sendable {
  struct Slot: Sendable {
    let address, size: Int128
    let memory: Int
    let flags: UInt64

    var isLogged: Bool { flags & 1 != 0 }
    var isReadOnly: Bool { flags & 2 != 0 }
  }

  private(set) var slots: [Int: Slot] = [:]
  /// The memory whose pages are mapped in the place of a memory's own.
  private var shown: [Int: Int] = [:]
  /// How the host maps it, where that is not for reading and writing.
  private var access: [Int: HostAccess] = [:]

  /// Why KVM can't write the guest's bytes from `address` on; nil if it can.
  func obstacle(at address: UInt64, count: Int128) -> Obstacle? {
    guard !slots.isEmpty else { return nil }
    guard let number = place(of: address, count: count)?.slot, let slot = slots[number] else {
      return .noSlot
    }
    switch access[slot.memory] {
    case .none?: return .noAccess
    case .read?: return .readOnly
    case .write?, nil: return nil
    }
  }

  /// Where the guest's bytes from `address` on are; nil if no slot holds them all.
  func place(of address: UInt64, count: Int128) -> (place: Place, slot: Int)? {
    let start = Int128(address)
    for number in slots.keys.sorted() {
      guard let slot = slots[number], slot.address <= start,
        start + count <= slot.address + slot.size
      else { continue }
      let memory = shown[slot.memory] ?? slot.memory
      return (Place(memory: memory, offset: start - slot.address, count: count), number)
    }
    return nil
  }

  mutating func take(_ action: Action) {
    switch action {
    case .slotSet(let slot, let address, let memory, let size, let flags):
      slots[slot] = Slot(
        address: Int128(address.value), size: Int128(size.value), memory: memory,
        flags: flags.value)
    case .slotDeleted(let slot): slots[slot] = nil
    case .remapped(let memory, let other): (shown[memory], access[memory]) = (other, nil)
    case .protected(let memory, let access): self.access[memory] = access
    default: break
    }
  }
}

/// Who has a record in a piece of guest memory.
enum RecordOwner: Sendable {
  /// A registered record lies there, or overlaps it.
  case live
  /// A vCPU had its record there, and gave it up by `write`: a write of the system-time MSR, or a reset.
  case givenUp(vcpu: Int, how: GivenUp, write: Event)

  enum GivenUp: Hashable, Sendable {
    case moved
    case disabled
    case reset(Reset)
  }
}

/// One event, and the state before and after it. A class, because rules pass it around and it is large.
final class Step: Sendable {
  /// Place of the event in the history, from 0.
  let index: Int
  let event: Event
  let machine: MachineState
  /// The vCPU that acted, or that the host dealt with; nil if there is none.
  let vcpu: Int?
  /// The state of that vCPU before the event and after it.
  let before, after: VCPUState
  /// For a look at a record: who has a record there; nil if nobody ever had.
  let owner: RecordOwner?
  /// Values of the clock that the event shows.
  let observations: [Observation]
  /// What L2 read, at L1's TSC: no value of the clock for rules that know of one TSC a vCPU.
  let readingInL2: Observation?

  init(
    index: Int, event: Event, machine: MachineState, vcpu: Int?, before: VCPUState,
    after: VCPUState, owner: RecordOwner?, observations: [Observation],
    readingInL2: Observation?
  ) {
    self.index = index
    self.event = event
    self.machine = machine
    self.vcpu = vcpu
    self.before = before
    self.after = after
    self.owner = owner
    self.observations = observations
    self.readingInL2 = readingInL2
  }

  /// Whether a vCPU was in the guest.
  var isEntry: Bool { event.actor != .host }
  /// The system-time write that KVM accepted in this event.
  var systemTimeWrite: SystemTimeWrite? {
    guard let write = after.systemTime, write.event.number == event.number,
      event.isSystemTimeWrite
    else { return nil }
    return write
  }
}

/// The events of one machine, in order.
struct MachineRun: Sendable {
  let number: Int
  var steps: [Step] = []
}

extension Event {
  /// The vCPU that acted, or that the host dealt with.
  var vcpu: Int? {
    if case .vcpu(let vcpu) = actor { return vcpu }
    return switch action {
    case .vcpuCreated(let vcpu), .featuresSet(let vcpu, _), .booted(let vcpu, _, _),
      .replugged(let vcpu, _), .cpuidWithoutKVM(let vcpu), .featuresEnforced(let vcpu),
      .moved(let vcpu, _), .halted(let vcpu), .tscKHz(let vcpu, _), .tscOffset(let vcpu, _),
      .hostWroteMSR(let vcpu, _, _), .hostReadMSR(let vcpu, _, _), .hostMSRRefused(let vcpu, _, _),
      .hostMSRReadRefused(let vcpu, _), .xenTimeSet(let vcpu, _),
      .xenInfoSet(let vcpu, _),
      .setTSCOffset(let vcpu, _), .toldStopped(let vcpu, _), .page(let vcpu, _, _):
      vcpu
    case .setTSCKHz(let vcpu, _, _): vcpu
    default: nil
    }
  }

  /// Whether it is an accepted write of the system-time MSR, by the guest or by the host.
  var isSystemTimeWrite: Bool {
    switch action {
    case .wroteMSR(let msr, _, nil), .hostWroteMSR(_, let msr, _): MSR.isSystemTime(msr)
    default: false
    }
  }

  /// Whether it concerns the host as a whole, so that every machine alive sees it.
  var isOfTheHost: Bool {
    switch action {
    case .hostChanged, .hostClock, .disturbed: true
    default: false
    }
  }
}
