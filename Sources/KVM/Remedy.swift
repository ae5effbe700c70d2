internal import Glibc

/// What can be done about an error, by request and error number.
enum Remedy {
  static func of(request: String, errno: Int32) -> String? {
    let specific =
      switch request {
      case "KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_CREATE_IRQCHIP":
        ofCreation(request: request, errno: errno)
      case "KVM_SET_USER_MEMORY_REGION", "KVM_GET_DIRTY_LOG", "KVM_CLEAR_DIRTY_LOG", "mmap":
        ofMemory(request: request, errno: errno)
      case "KVM_ENABLE_CAP", "KVM_SET_CPUID2", "KVM_KVMCLOCK_CTRL", "KVM_GET_TSC_KHZ", "KVM_RUN":
        ofUse(request: request, errno: errno)
      default:
        nil as String?
      }
    return specific ?? ofAny(errno: errno)
  }

  /// What can be done where the device itself cannot be opened or is not KVM's.
  static func ofOpening(path: String, errno: Int32) -> String? {
    switch errno {
    case ENOENT, ENODEV, ENXIO:
      """
      Load the module kvm_intel or kvm_amd, and enable virtualization (VT-x or AMD-V) in the \
      firmware; inside a VM, have its host enable nested virtualization.
      """
    case EACCES, EPERM:
      """
      Add yourself to the group that owns \(path) (most often `kvm`) and log in again, or run as \
      root; in a container, pass the device in.
      """
    case EMFILE, ENFILE: openFileLimit
    case ENOTTY, EISDIR, EINVAL, ENOSYS, EOPNOTSUPP, ENOTDIR, ETXTBSY:
      notKVM(path: path)
    default: nil
    }
  }

  static func notKVM(path: String) -> String {
    "\(path) isn't KVM's device: name the device that the kernel's KVM made, most often /dev/kvm."
  }

  private static let openFileLimit = "Raise the limit on open files (`ulimit -n`)."

  private static func ofCreation(request: String, errno: Int32) -> String? {
    switch (request, errno) {
    case ("KVM_CREATE_VM", EPERM), ("KVM_CREATE_VM", EACCES):
      "A security policy of this host forbids VMs: run as root, or outside of the container."
    case ("KVM_CREATE_VM", EBUSY):
      "Another hypervisor holds VT-x or AMD-V: stop it and unload its module."
    case ("KVM_CREATE_VM", EINVAL):
      "This kernel has no VM of that type: use type 0."
    case ("KVM_CREATE_VCPU", EEXIST):
      "The VM has a vCPU with this id already: choose another id."
    case ("KVM_CREATE_VCPU", EINVAL):
      "The id or the number of vCPUs is above what KVM_CAP_MAX_VCPU_ID or KVM_CAP_MAX_VCPUS allows."
    case ("KVM_CREATE_IRQCHIP", EINVAL):
      "Create the interrupt controllers before the first vCPU."
    default: nil
    }
  }

  private static func ofMemory(request: String, errno: Int32) -> String? {
    switch (request, errno) {
    case ("KVM_SET_USER_MEMORY_REGION", EEXIST):
      "The region overlaps another slot: delete that one first, or move this one."
    case ("KVM_SET_USER_MEMORY_REGION", EINVAL):
      """
      Both addresses and the size must be whole pages; a slot's size and its read-only flag can \
      change only by deleting it.
      """
    case ("KVM_GET_DIRTY_LOG", ENOENT), ("KVM_CLEAR_DIRTY_LOG", ENOENT):
      "Set the slot with the flag that logs dirty pages first."
    case ("KVM_GET_DIRTY_LOG", EFAULT):
      "The slot has more pages than were asked for: ask for all of them."
    case ("mmap", ENOMEM):
      "Free memory, or raise the limit on address space (`ulimit -v`)."
    default: nil
    }
  }

  private static func ofUse(request: String, errno: Int32) -> String? {
    switch (request, errno) {
    case ("KVM_ENABLE_CAP", EINVAL):
      "This kernel does not have the capability, or refuses the arguments given with it."
    case ("KVM_SET_CPUID2", EINVAL):
      "Set the CPUID entries before the vCPU first runs."
    case ("KVM_KVMCLOCK_CTRL", EINVAL):
      "The guest has not enabled its clock page on this vCPU: there is nothing to mark as paused."
    case ("KVM_GET_TSC_KHZ", EIO):
      "The TSC of this host is not stable, so it has no frequency."
    case ("KVM_RUN", EFAULT):
      "The host's memory behind a slot is gone: keep it mapped for as long as the slot is set."
    default: nil
    }
  }

  private static func ofAny(errno: Int32) -> String? {
    switch errno {
    case EIO:
      """
      KVM has killed the VM (the kernel's log says why), or the VM was made by another process: \
      make a new one.
      """
    case EMFILE, ENFILE: openFileLimit
    default: nil
    }
  }
}
