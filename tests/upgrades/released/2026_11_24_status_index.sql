BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('2026_11_24_status_index');
CREATE TABLE "attempts" (
	job_id VARCHAR(40) NOT NULL, 
	attempt INTEGER NOT NULL, 
	owner VARCHAR(40) NOT NULL, 
	started_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	outcome VARCHAR(32), 
	error_code VARCHAR(64), 
	error_message TEXT, 
	lane VARCHAR(16) NOT NULL, 
	CONSTRAINT pk_attempts PRIMARY KEY (job_id, attempt), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES('job_01M7YVNPA2AEBMHSH75WSHFHKK',1,'wrk_released','2026-11-21 10:50:43.418849','2026-11-21 10:50:43.441804','finish',NULL,NULL,'gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPBZGNZTC4SDSVXEGZCP',1,'wrk_released','2026-11-21 10:50:43.462158','2026-11-21 10:50:43.465487','finish',NULL,NULL,'gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPCEFE664ECJPP73A6RV',1,'wrk_released','2026-11-21 10:50:43.474774','2026-11-21 10:50:43.477971','fail','numeric_error','NaN','gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPD36R5MCJP0N4WBBKZZ',1,'wrk_released','2026-11-21 10:50:43.494807','2026-11-21 10:50:43.512363','cancel',NULL,NULL,'gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPDTC6VV7TNQB02ERME2',1,'wrk_released','2026-11-21 10:50:43.518787','2026-11-21 10:50:43.522239','retry','storage_failed','full','gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPEAT6V7S0ASRXVHWJ5C',1,'wrk_released','2026-11-21 10:50:43.534798','2026-11-21 10:50:43.553601','rescue',NULL,NULL,'gpu');
INSERT INTO "attempts" VALUES('job_01M7YVNPHTQTWBVSM4DCCRS5D1',1,'wrk_released','2026-11-21 10:50:43.654888',NULL,NULL,NULL,NULL,'gpu');
CREATE TABLE idempotency_keys (
	"key" VARCHAR(255) NOT NULL, 
	body_sha256 VARCHAR(64) NOT NULL, 
	job_id VARCHAR(40) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY ("key"), 
	CONSTRAINT fk_idempotency_keys_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "idempotency_keys" VALUES('released','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','job_01M7YVNPH6DS951SGRY1J6FQP2','2026-11-21 10:50:43.622964');
CREATE TABLE "images" (
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
	generator VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT fk_images_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_images_job_id_image_index UNIQUE (job_id, image_index)
);
INSERT INTO "images" VALUES('img_01M7YVNPBE280VTYN8P2PNAP01','job_01M7YVNPA2AEBMHSH75WSHFHKK',1,0,0,8,8,'job_01M7YVNPA2AEBMHSH75WSHFHKK/1-0.png','image/png',38,'4225ac44ddc077234874984f19c158946c942630d13675b02a29fde1fc5c632d','2026-11-21 10:50:43.441120','local');
INSERT INTO "images" VALUES('img_01M7YVNPBE280VTYN8P2PNAP02','job_01M7YVNPA2AEBMHSH75WSHFHKK',1,1,1,8,8,'job_01M7YVNPA2AEBMHSH75WSHFHKK/1-1.png','image/png',38,'ad2a156d813d9e785fe3e75d163630630469a0312872e882357d8b4d1beca3bf','2026-11-21 10:50:43.441120','local');
INSERT INTO "images" VALUES('img_01M7YVNPC7DTXBAMGZX46JE7J6','job_01M7YVNPBZGNZTC4SDSVXEGZCP',1,0,0,8,8,'job_01M7YVNPBZGNZTC4SDSVXEGZCP/1-0.png','image/png',38,'bbe7f6e81ce896a661d45dae501edf2e50df9254f9d05edc6937e5924075bc8d','2026-11-21 10:50:43.464892','local');
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
INSERT INTO "job_inputs" VALUES('job_01M7YVNPBZGNZTC4SDSVXEGZCP','image','upload/input-image.png',8,8,22,'2e62c0131a48be4243353f27f0d296ba1e86e474f763520106725b3140f0a737');
CREATE TABLE "jobs" (
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
	residency VARCHAR(128) NOT NULL, 
	bypasses INTEGER NOT NULL, 
	first_bypassed_at DATETIME, 
	accelerations JSON NOT NULL, 
	route JSON NOT NULL, 
	leg INTEGER NOT NULL, 
	enhancement JSON, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_owner CHECK ((status = 'running') = (owner IS NOT NULL)), 
	CONSTRAINT ck_jobs_status CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled'))
);
INSERT INTO "jobs" VALUES('job_01M7YVNPA2AEBMHSH75WSHFHKK','generate','succeeded',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 2, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','["a warning"]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.404613','2026-11-21 10:50:43.418849','2026-11-21 10:50:43.439033',NULL,1.5,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 2, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPBZGNZTC4SDSVXEGZCP','edit','succeeded',NULL,3,'gpu',0,0,'demo-kontext','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "edit"}','[]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.455567','2026-11-21 10:50:43.462158','2026-11-21 10:50:43.463891',NULL,1.5,'demo-kontext',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo-kontext", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPCEFE664ECJPP73A6RV','generate','failed',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,'numeric_error','NaN',0,'2026-11-21 10:50:43.471377','2026-11-21 10:50:43.474774','2026-11-21 10:50:43.476081',NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPD36R5MCJP0N4WBBKZZ','generate','cancelled',NULL,4,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',1,0,NULL,NULL,'2026-11-21 10:50:43.496675',NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.491595','2026-11-21 10:50:43.494807','2026-11-21 10:50:43.510806',NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPDTC6VV7TNQB02ERME2','generate','queued',NULL,3,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',1,0,NULL,NULL,NULL,'2029-08-17 10:50:43.519977',NULL,0,1,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.515246',NULL,NULL,NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPEAT6V7S0ASRXVHWJ5C','generate','queued',NULL,4,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',1,1,NULL,NULL,NULL,NULL,NULL,1,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.531472',NULL,NULL,NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPG0W3EY6RWDP217HPK9','generate','queued',NULL,2,'gpu',1,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',0,0,NULL,NULL,NULL,NULL,NULL,1,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.585120',NULL,NULL,NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPGJJQTFA8JX22WJ4SV9','generate','cancelled',NULL,2,'gpu',1,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',0,0,NULL,NULL,'2026-11-21 10:50:43.610826',NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.603467',NULL,'2026-11-21 10:50:43.610826',NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPH6DS951SGRY1J6FQP2','generate','queued',NULL,1,'gpu',1,0,'schnell','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',0,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.624964',NULL,NULL,NULL,NULL,'schnell',0,NULL,'[]','{"legs": [{"generator": "local", "model": "schnell", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
INSERT INTO "jobs" VALUES('job_01M7YVNPHTQTWBVSM4DCCRS5D1','generate','running','loading',2,'gpu',0,0,'demo','local','{"prompt": "a red circle", "num_inference_steps": 4, "guidance_scale": 0.0, "width": 256, "height": 256, "seed": 1, "num_images": 1, "precision": "exact", "output_format": "png", "kind": "generate", "negative_prompt": null, "sampler": null, "strength": null, "ip_adapter_scale": null}','[]',1,0,'wrk_released','2026-11-21 10:51:13.654888',NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-21 10:50:43.643418','2026-11-21 10:50:43.654888',NULL,NULL,NULL,'demo',0,NULL,'[]','{"legs": [{"generator": "local", "model": "demo", "first": 0, "count": 1, "changes": {}}], "reason": "", "alternatives": []}',0,NULL);
CREATE TABLE lanes (
	lane VARCHAR(16) NOT NULL, 
	paused_at DATETIME, 
	CONSTRAINT pk_lanes PRIMARY KEY (lane)
);
INSERT INTO "lanes" VALUES('remote','2026-11-21 10:50:43.636096');
CREATE TABLE workers (
	owner VARCHAR(40) NOT NULL, 
	lane VARCHAR(16) NOT NULL, 
	hostname VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	started_at DATETIME NOT NULL, 
	heartbeat_at DATETIME NOT NULL, 
	report JSON NOT NULL, trouble TEXT, 
	CONSTRAINT pk_workers PRIMARY KEY (owner)
);
INSERT INTO "workers" VALUES('wrk_released','gpu','host',1,'starting','2026-11-21 10:50:43.375056','2026-11-21 10:50:43.393464','{"device": "cpu"}',NULL);
CREATE INDEX ix_workers_lane_heartbeat_at ON workers (lane, heartbeat_at);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX ix_jobs_kind_id ON jobs (kind, id);
CREATE INDEX ix_jobs_residency ON jobs (status, lane, job_class, priority, residency, created_at, id);
CREATE INDEX ix_jobs_claim ON jobs (status, lane, job_class, priority, created_at, id);
CREATE INDEX ix_jobs_status_id ON jobs (status, id);
COMMIT;
