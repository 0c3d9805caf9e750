BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('2026_11_21_initial');
CREATE TABLE attempts (
	job_id VARCHAR(40) NOT NULL, 
	attempt INTEGER NOT NULL, 
	owner VARCHAR(40) NOT NULL, 
	started_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	outcome VARCHAR(32), 
	error_code VARCHAR(64), 
	error_message TEXT, 
	CONSTRAINT pk_attempts PRIMARY KEY (job_id, attempt), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES('job_01M7YDC3JZWJZ3S26WHZ0NMPD3',1,'wrk_released','2026-11-21 06:40:49.254803','2026-11-21 06:40:49.265402','finish',NULL,NULL);
INSERT INTO "attempts" VALUES('job_01M7YDC3KTW6NN7MQS7VQMR4V2',1,'wrk_released','2026-11-21 06:40:49.282853','2026-11-21 06:40:49.288691','finish',NULL,NULL);
INSERT INTO "attempts" VALUES('job_01M7YDC3M9ZNDBHDFXWWJS6E4N',1,'wrk_released','2026-11-21 06:40:49.294819','2026-11-21 06:40:49.300504','fail','numeric_error','NaN');
INSERT INTO "attempts" VALUES('job_01M7YDC3MPC53REV5N5X5CRAG5',1,'wrk_released','2026-11-21 06:40:49.306791','2026-11-21 06:40:49.321011','cancel',NULL,NULL);
INSERT INTO "attempts" VALUES('job_01M7YDC3N9PVKR1PG84GEJ5JY2',1,'wrk_released','2026-11-21 06:40:49.330851','2026-11-21 06:40:49.336458','retry','storage_failed','full');
INSERT INTO "attempts" VALUES('job_01M7YDC3NTCWV313YWKJD3ZHCC',1,'wrk_released','2026-11-21 06:40:49.342779','2026-11-21 06:40:49.350893','rescue',NULL,NULL);
INSERT INTO "attempts" VALUES('job_01M7YDC3Q6Y86EK3AAPTENNWNA',1,'wrk_released','2026-11-21 06:40:49.386783',NULL,NULL,NULL,NULL);
CREATE TABLE idempotency_keys (
	"key" VARCHAR(255) NOT NULL, 
	body_sha256 VARCHAR(64) NOT NULL, 
	job_id VARCHAR(40) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY ("key"), 
	CONSTRAINT fk_idempotency_keys_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "idempotency_keys" VALUES('released','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','job_01M7YDC3PTW1BKQW5KDM75QS41','2026-11-21 06:40:49.370885');
CREATE TABLE images (
	id VARCHAR(40) NOT NULL, 
	job_id VARCHAR(40) NOT NULL, 
	attempt INTEGER NOT NULL, 
	image_index INTEGER NOT NULL, 
	seed INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	path VARCHAR(255) NOT NULL, 
	content_type VARCHAR(64) NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT fk_images_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_images_job_id_image_index UNIQUE (job_id, image_index)
);
INSERT INTO "images" VALUES('img_01M7YDC3KFGFNAYMQTH1FSMZF0','job_01M7YDC3JZWJZ3S26WHZ0NMPD3',1,0,0,8,8,'job_01M7YDC3JZWJZ3S26WHZ0NMPD3/1-0.png','image/png',38,'465afae81fdeb51ebb90f28de7a3ab4880f76cc2244ed61c25bbff56d4c8797c','2026-11-21 06:40:49.264696');
INSERT INTO "images" VALUES('img_01M7YDC3KFGFNAYMQTH1FSMZF1','job_01M7YDC3JZWJZ3S26WHZ0NMPD3',1,1,1,8,8,'job_01M7YDC3JZWJZ3S26WHZ0NMPD3/1-1.png','image/png',38,'eeedb385cd1edb07f18cbff2bbc4f39fe9797c987ae3d4c9dfb8d3525a104408','2026-11-21 06:40:49.264696');
INSERT INTO "images" VALUES('img_01M7YDC3M7YNZSPQ1EYDJ581TA','job_01M7YDC3KTW6NN7MQS7VQMR4V2',1,0,0,8,8,'job_01M7YDC3KTW6NN7MQS7VQMR4V2/1-0.png','image/png',38,'7740788ed34f826a7fabac6d12fafc41bf41e5ea0943f0e40a307fd37b2f3dbe','2026-11-21 06:40:49.288181');
CREATE TABLE job_inputs (
	job_id VARCHAR(40) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	path VARCHAR(255) NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_job_inputs PRIMARY KEY (job_id, role), 
	CONSTRAINT fk_job_inputs_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_inputs" VALUES('job_01M7YDC3KTW6NN7MQS7VQMR4V2','image','upload/input-image.png',8,8,22,'2e62c0131a48be4243353f27f0d296ba1e86e474f763520106725b3140f0a737');
CREATE TABLE jobs (
	id VARCHAR(40) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	phase VARCHAR(16), 
	status_seq INTEGER NOT NULL, 
	lane VARCHAR(16) NOT NULL, 
	job_class INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	model VARCHAR(64) NOT NULL, 
	generator VARCHAR(32) NOT NULL, 
	params JSON NOT NULL, 
	warnings JSON NOT NULL, 
	attempt INTEGER NOT NULL, 
	crashes INTEGER NOT NULL, 
	owner VARCHAR(40), 
	lease_expires_at DATETIME, 
	cancel_requested_at DATETIME, 
	not_before DATETIME, 
	deadline DATETIME, 
	held BOOLEAN NOT NULL, 
	errors INTEGER NOT NULL, 
	rung_at DATETIME, 
	error_code VARCHAR(64), 
	error_message TEXT, 
	error_retryable BOOLEAN, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	load_seconds FLOAT, 
	run_seconds FLOAT, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_owner CHECK ((status = 'running') = (owner IS NOT NULL)), 
	CONSTRAINT ck_jobs_status CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled'))
);
INSERT INTO "jobs" VALUES('job_01M7YDC3JZWJZ3S26WHZ0NMPD3','generate','succeeded',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 2, "kind": "generate"}','["a warning"]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.250707','2026-11-21 06:40:49.254803','2026-11-21 06:40:49.263145',NULL,1.5);
INSERT INTO "jobs" VALUES('job_01M7YDC3KTW6NN7MQS7VQMR4V2','edit','succeeded',NULL,3,'gpu',0,0,'demo-kontext','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "edit"}','[]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.275568','2026-11-21 06:40:49.282853','2026-11-21 06:40:49.287372',NULL,1.5);
INSERT INTO "jobs" VALUES('job_01M7YDC3M9ZNDBHDFXWWJS6E4N','generate','failed',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,'numeric_error','NaN',0,'2026-11-21 06:40:49.289825','2026-11-21 06:40:49.294819','2026-11-21 06:40:49.298798',NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3MPC53REV5N5X5CRAG5','generate','cancelled',NULL,4,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',1,0,NULL,NULL,'2026-11-21 06:40:49.310565',NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.303272','2026-11-21 06:40:49.306791','2026-11-21 06:40:49.318853',NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3N9PVKR1PG84GEJ5JY2','generate','queued',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',1,0,NULL,NULL,NULL,'2029-08-17 06:40:49.334899',NULL,0,1,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.322416',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3NTCWV313YWKJD3ZHCC','generate','queued',NULL,4,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',1,1,NULL,NULL,NULL,NULL,NULL,1,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.339219',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3PAKBYTWYW8W414K5JP','generate','queued',NULL,2,'gpu',1,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',0,0,NULL,NULL,NULL,NULL,NULL,1,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.354753',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3PJ6VEW130HV12CRBSE','generate','cancelled',NULL,2,'gpu',1,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',0,0,NULL,NULL,'2026-11-21 06:40:49.366821',NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.363366',NULL,'2026-11-21 06:40:49.366821',NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3PTW1BKQW5KDM75QS41','generate','queued',NULL,1,'gpu',1,0,'schnell','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',0,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.372631',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job_01M7YDC3Q6Y86EK3AAPTENNWNA','generate','running','loading',2,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "kind": "generate"}','[]',1,0,'wrk_released','2026-11-21 06:41:19.386783',NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 06:40:49.383264','2026-11-21 06:40:49.386783',NULL,NULL,NULL);
CREATE TABLE lanes (
	lane VARCHAR(16) NOT NULL, 
	paused_at DATETIME, 
	CONSTRAINT pk_lanes PRIMARY KEY (lane)
);
INSERT INTO "lanes" VALUES('remote','2026-11-21 06:40:49.379713');
CREATE TABLE workers (
	owner VARCHAR(40) NOT NULL, 
	lane VARCHAR(16) NOT NULL, 
	hostname VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	started_at DATETIME NOT NULL, 
	heartbeat_at DATETIME NOT NULL, 
	report JSON NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (owner)
);
INSERT INTO "workers" VALUES('wrk_released','gpu','host',1,'starting','2026-11-21 06:40:49.238904','2026-11-21 06:40:49.247037','{"device": "cpu"}');
CREATE INDEX ix_jobs_claim ON jobs (status, lane, job_class, priority, created_at, id);
CREATE INDEX ix_jobs_kind_id ON jobs (kind, id);
CREATE INDEX ix_workers_lane_heartbeat_at ON workers (lane, heartbeat_at);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
COMMIT;
