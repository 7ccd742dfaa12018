// Names that code and infrastructure share; a test holds them against each other.

@export()
@description('The table of the records: IDEMPOTENCY_TABLE.')
var table = 'idempotency'

@export()
@description('Where the orders come from: queueName of the trigger.')
var ordersQueue = 'orders'

@export()
@description('Where the host puts what keeps failing: always the name of the trigger queue and this.')
var poisonQueue = 'orders-poison'

@export()
@description('Where the host puts what can never succeed: queueName of the output binding.')
var quarantineQueue = 'orders-quarantine'

@export()
@description('Where the handler announces what it has committed: EVENTS_QUEUE.')
var eventsQueue = 'order-events'

@export()
@description('Where the package lies that the app runs.')
var packageContainer = 'app-package'
